"""Devices' logs: asked for by an operator, sent by the device when it is there, kept as files.

{directory}/logs/{device}/{request id}.jsonl
{directory}/logs.sqlite
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

from cloud_broker.database import Database
from cloud_broker.files import make_private_directory
from hardware.durable import write_private
from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import Log, LogRequest
from protocol.topics import check_name

MAX_LOG_BYTES = 512 << 10
MAX_UNPACKED_BYTES = 16 << 20
_KEPT_S = 7 * 24 * 3600.0  # how long a request waits for a device that is away
_TABLES = """
CREATE TABLE IF NOT EXISTS request (
    request_id TEXT PRIMARY KEY, device TEXT NOT NULL, asked_s REAL NOT NULL, sent INTEGER NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""


class Logs:
    """Requests for logs and what came of them; an operator's command and a worker use it side by side."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the logs under ``directory``, or create them.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = Database(directory / "logs.sqlite", _TABLES)
        self._files = directory / "logs"
        self._clock = clock

    def ask(self, device: str) -> str:
        """Have a worker ask a device for its log; the request's id.

        Raises:
            MalformedMessageError: If it is no device's name.
        """
        request_id = uuid.uuid4().hex
        with self._database.transaction() as database:
            database.execute("DELETE FROM request WHERE asked_s < ?", [self._clock() - _KEPT_S])
            row = (request_id, check_name(device, "device"), self._clock())
            database.execute("INSERT INTO request (request_id, device, asked_s) VALUES (?, ?, ?)", row)
        return request_id

    def take_unsent(self) -> list[tuple[str, LogRequest]]:
        """Requests that no worker has sent yet, by device; they are this worker's now."""
        if not self._database.rows("SELECT 1 FROM request WHERE NOT sent LIMIT 1"):
            return []
        with self._database.transaction() as database:
            rows = database.execute("SELECT device, request_id FROM request WHERE NOT sent").fetchall()
            database.executemany("UPDATE request SET sent = 1 WHERE request_id = ?", [row[1:] for row in rows])
        return [(device, LogRequest(request_id, MAX_LOG_BYTES)) for device, request_id in rows]

    def keep(self, device: str, log: Log) -> None:
        """Keep what a device sent; sent again, it changes nothing.

        Raises:
            MalformedMessageError: If nobody asked this device for it, or it is not packed as it should be.
            OversizeError: If it unpacks to too much.
        """
        if not self._database.rows("SELECT 1 FROM request WHERE request_id = ? AND device = ?", log.request_id, device):
            raise MalformedMessageError("log: nobody asked for it")
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(log.data, MAX_UNPACKED_BYTES)
        except zlib.error as error:
            raise MalformedMessageError(f"log: not zlib ({error})") from error
        if unpacker.unconsumed_tail:
            raise OversizeError("log", MAX_UNPACKED_BYTES + 1, MAX_UNPACKED_BYTES)
        path = self.path(device, log.request_id)
        make_private_directory(path.parent)
        write_private(path, text)
        with self._database.transaction() as database:
            database.execute("UPDATE request SET answered = 1 WHERE request_id = ?", [log.request_id])

    def answered(self, request_id: str) -> bool:
        """Whether the log is here."""
        return bool(self._database.rows("SELECT 1 FROM request WHERE request_id = ? AND answered", request_id))

    def path(self, device: str, request_id: str) -> Path:
        """Where a log is, or will be."""
        return self._files / check_name(device, "device") / f"{check_name(request_id, 'request')}.jsonl"

    def close(self) -> None:
        """Close the database."""
        self._database.close()
