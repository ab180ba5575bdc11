"""Messages that must reach the cloud though the link may be down for days: kept until the cloud says it has them.

The outbox is bounded in bytes. Where it is full the oldest reports give way, contributed samples never: a message that
finds no room even so is refused with an error. Both are counted, so that nothing is lost in silence.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from edge.errors import OutboxFullError
from edge.storage.database import Database
from protocol.envelope import encode
from protocol.messages import Message, Report

MAX_OUTBOX_BYTES = 32 << 20
GAVE_WAY, NO_ROOM = "gave-way", "no-room"


@dataclass(frozen=True)
class Letter:
    """A queued message: its id, its kind, and its encoded envelope."""

    message_id: str
    kind: str
    payload: bytes


@dataclass(frozen=True)
class Entry:
    """What a letter is, without its payload.

    Attributes:
        message_id: Its id.
        kind: What is said in it.
        size_bytes: Of its encoded envelope.
        queued_unix_s: When it was queued.
    """

    message_id: str
    kind: str
    size_bytes: int
    queued_unix_s: float


@dataclass(frozen=True)
class Loss:
    """Messages that will not reach the cloud.

    Attributes:
        kind: What was said in them.
        why: `GAVE_WAY` to newer ones, or `NO_ROOM` was found for them.
        messages: How many.
        size_bytes: Of all of them.
    """

    kind: str
    why: str
    messages: int
    size_bytes: int


class Outbox:
    """A queue on disk. A message is removed once the cloud has it, so it is sent at least once; its id makes that once.

    Attributes:
        limit_bytes: What may wait.
    """

    def __init__(self, database: Database, limit_bytes: int = MAX_OUTBOX_BYTES) -> None:
        self._database = database
        self.limit_bytes = limit_bytes

    def add(self, message: Message) -> str:
        """Queue a message and return its id.

        Raises:
            OversizeError: If it is larger than the tunnel takes; nothing is queued.
            OutboxFullError: If the outbox is full of contributions; counted.
            StoreError: If it cannot be written.
        """
        message_id = uuid.uuid4().hex
        payload = encode(message, message_id)
        if not self._has_room(len(payload)):
            with self._database.transaction():
                self._count_loss(message.kind, NO_ROOM, len(payload))
            raise OutboxFullError(
                f"outbox: {self.size_bytes} bytes wait for the cloud, {len(payload)} more exceed the limit of "
                f"{self.limit_bytes}; the device must reach its broker first"
            )
        with self._database.transaction() as rows:
            self._make_room(len(payload))
            rows.execute(
                "INSERT INTO outbox (message_id, kind, payload, queued_unix_s) VALUES (?, ?, ?, ?)",
                (message_id, message.kind, payload, time.time()),
            )
        return message_id

    def _has_room(self, needed_bytes: int) -> bool:
        """Whether it fits once all reports gave way."""
        query = "SELECT coalesce(sum(length(payload)), 0) FROM outbox WHERE kind != ?"
        return int(self._database.rows(query, Report.kind)[0][0]) + needed_bytes <= self.limit_bytes

    def _make_room(self, needed_bytes: int) -> None:
        with self._database.transaction() as rows:
            while self.size_bytes + needed_bytes > self.limit_bytes:
                oldest = "SELECT id, length(payload) FROM outbox WHERE kind = ? ORDER BY id LIMIT 1"
                row, size_bytes = self._database.rows(oldest, Report.kind)[0]
                rows.execute("DELETE FROM outbox WHERE id = ?", (row,))
                self._count_loss(Report.kind, GAVE_WAY, size_bytes)

    def _count_loss(self, kind: str, why: str, size_bytes: int) -> None:
        with self._database.transaction() as rows:
            rows.execute(
                "INSERT INTO outbox_losses VALUES (?, ?, 1, ?) ON CONFLICT (kind, why)"
                " DO UPDATE SET messages = messages + 1, size_bytes = size_bytes + excluded.size_bytes",
                (kind, why, size_bytes),
            )

    def losses(self) -> list[Loss]:
        """What was lost since the outbox was made, and why."""
        query = "SELECT kind, why, messages, size_bytes FROM outbox_losses ORDER BY kind, why"
        return [Loss(*row) for row in self._database.rows(query)]

    def entries(self) -> list[Entry]:
        """What waits, oldest first."""
        query = "SELECT message_id, kind, length(payload), queued_unix_s FROM outbox ORDER BY id"
        return [Entry(*row) for row in self._database.rows(query)]

    def letter(self, prefix: str) -> Letter | None:
        """The one letter whose id begins so; None if there is none, or more than one."""
        query = "SELECT message_id, kind, payload FROM outbox WHERE substr(message_id, 1, ?) = ? LIMIT 2"
        found = self._database.rows(query, len(prefix), prefix)
        return Letter(*found[0]) if len(found) == 1 else None

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
