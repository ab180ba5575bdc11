"""Devices' logs: asked for by an operator, sent by the device when it is there, kept as files.

{directory}/logs/{device}/{request id}.jsonl
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import bindparam, delete, select, update

from cloud_broker.files import make_private_directory
from cloud_broker.storage.database import SharedDatabase, insert
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import LOG_REQUEST
from hardware.durable import write_private
from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import Log, LogRequest
from protocol.topics import check_name

MAX_LOG_BYTES = 512 << 10
MAX_UNPACKED_BYTES = 16 << 20
_KEPT_S = 7 * 24 * 3600.0  # how long a request waits for a device that is away
_UNSENT = select(LOG_REQUEST.c.request_id).where(LOG_REQUEST.c.sent.is_(False)).limit(1)
# What two workers want at once is given to one of them: the write itself says which were not sent.
_TAKE = (
    update(LOG_REQUEST)
    .where(LOG_REQUEST.c.sent.is_(False))
    .values(sent=True)
    .returning(LOG_REQUEST.c.device, LOG_REQUEST.c.request_id)
)
_ASKED = select(LOG_REQUEST.c.request_id).where(
    LOG_REQUEST.c.request_id == bindparam("request_id"), LOG_REQUEST.c.device == bindparam("device")
)
_ANSWERED = select(LOG_REQUEST.c.answered).where(LOG_REQUEST.c.request_id == bindparam("request_id"))


class Logs:
    """Requests for logs and what came of them; an operator's command and a worker use it side by side."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the logs, or create them; the logs themselves are files of this machine.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)
        self._files = Place.of(where).state_dir / "logs"
        self._clock = clock

    def ask(self, device: str) -> str:
        """Have a worker ask a device for its log; the request's id.

        Raises:
            MalformedMessageError: If it is no device's name.
        """
        request_id = uuid.uuid4().hex
        with self._database.transaction() as database:
            database.execute(delete(LOG_REQUEST).where(LOG_REQUEST.c.asked_s < self._clock() - _KEPT_S))
            row = {"request_id": request_id, "device": check_name(device, "device"), "asked_s": self._clock()}
            database.execute(insert(LOG_REQUEST), row)
        return request_id

    def take_unsent(self) -> list[tuple[str, LogRequest]]:
        """Requests that no worker has sent yet, by device; they are this worker's now."""
        if not self._database.rows(_UNSENT):
            return []
        with self._database.transaction() as database:
            rows = database.execute(_TAKE).all()
        return [(device, LogRequest(request_id, MAX_LOG_BYTES)) for device, request_id in rows]

    def keep(self, device: str, log: Log) -> None:
        """Keep what a device sent; sent again, it changes nothing.

        Raises:
            MalformedMessageError: If nobody asked this device for it, or it is not packed as it should be.
            OversizeError: If it unpacks to too much.
        """
        if not self._database.rows(_ASKED, request_id=log.request_id, device=device):
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
            database.execute(
                update(LOG_REQUEST).where(LOG_REQUEST.c.request_id == log.request_id).values(answered=True)
            )

    def answered(self, request_id: str) -> bool:
        """Whether the log is here."""
        return self._database.rows(_ANSWERED, request_id=request_id) == [(True,)]

    def path(self, device: str, request_id: str) -> Path:
        """Where a log is, or will be."""
        return self._files / check_name(device, "device") / f"{check_name(request_id, 'request')}.jsonl"

    def close(self) -> None:
        """Close the database."""
        self._database.close()
