"""Messages that have arrived and wait to be read, bounded in number and in bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

# A broker sends only so many that are not acknowledged (Mosquitto 20, ours 100), and a device is told little that it
# did not ask for.
MAX_MESSAGES = 128
MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class Delivery:
    """A message as it arrived.

    Attributes:
        kind: The last part of its topic.
        payload: Its bytes, not decoded yet.
        mid: MQTT's number of it, on ``connection`` only; 0 where it needs no acknowledgement.
        connection: Which of our connections it came by.
        arrived_s: When, by the monotonic clock.
    """

    kind: str
    payload: bytes = field(repr=False)
    mid: int
    connection: int
    arrived_s: float = 0.0


class Inbox:
    """First in, first out. What does not fit is turned away: not acknowledged, the broker keeps it."""

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._waiting: deque[Delivery] = deque()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._turned_away = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, delivery: Delivery) -> bool:
        """Take a message in, unless there is no room."""
        if len(self._waiting) >= self._max_messages or self._bytes + len(delivery.payload) > self._max_bytes:
            self._turned_away = True
            return False
        self._waiting.append(delivery)
        self._bytes += len(delivery.payload)
        return True

    def take(self) -> Delivery | None:
        """The oldest message; None if there is none."""
        if not self._waiting:
            return None
        delivery = self._waiting.popleft()
        self._bytes -= len(delivery.payload)
        return delivery

    def has_room_again(self) -> bool:
        """True once after messages were turned away and all others were read: time to have those sent again."""
        again = self._turned_away and not self._waiting
        self._turned_away = self._turned_away and not again
        return again
