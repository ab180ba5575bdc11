"""Messages that must reach the cloud though the link may be down for days: kept until the cloud says it has them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from edge.database import Database
from edge.errors import StoreError
from protocol.envelope import encode
from protocol.messages import Message, Report

MAX_OUTBOX_BYTES = 32 << 20


@dataclass(frozen=True)
class Letter:
    """A queued message: its id, its kind, and its encoded envelope."""

    message_id: str
    kind: str
    payload: bytes


class Outbox:
    """A queue on disk, bounded in bytes: where it is full the oldest reports give way, contributed samples never."""

    def __init__(self, database: Database, limit_bytes: int = MAX_OUTBOX_BYTES) -> None:
        self._database = database
        self._limit_bytes = limit_bytes

    def add(self, message: Message) -> str:
        """Queue a message and return its id.

        Raises:
            OversizeError: If it is larger than the tunnel takes; nothing is queued.
            StoreError: If the outbox is full of contributions, or cannot be written.
        """
        message_id = uuid.uuid4().hex
        payload = encode(message, message_id)
        with self._database.transaction() as rows:
            self._make_room(len(payload))
            rows.execute(
                "INSERT INTO outbox (message_id, kind, payload, queued_unix_s) VALUES (?, ?, ?, ?)",
                (message_id, message.kind, payload, time.time()),
            )
        return message_id

    def _make_room(self, needed_bytes: int) -> None:
        with self._database.transaction() as rows:
            while self.size_bytes + needed_bytes > self._limit_bytes:
                oldest = "DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox WHERE kind = ?)"
                if rows.execute(oldest, (Report.kind,)).rowcount == 0:
                    raise StoreError(
                        f"outbox: {self.size_bytes} bytes wait for the cloud, {needed_bytes} more exceed the limit of "
                        f"{self._limit_bytes}; the device must reach its broker first"
                    )

    @property
    def size_bytes(self) -> int:
        """Bytes that wait."""
        return int(self._database.rows("SELECT coalesce(sum(length(payload)), 0) FROM outbox")[0][0])

    def pending(self) -> list[Letter]:
        """Everything that waits, oldest first."""
        return [Letter(*row) for row in self._database.rows("SELECT message_id, kind, payload FROM outbox ORDER BY id")]

    def __contains__(self, message_id: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM outbox WHERE message_id = ?", message_id))

    def remove(self, message_id: str) -> None:
        """Forget a message that the cloud has; an unknown id is no error, since the cloud may say so twice."""
        with self._database.transaction() as rows:
            rows.execute("DELETE FROM outbox WHERE message_id = ?", (message_id,))
