"""What a worker's MQTT client has to say: bytes to be written next, and messages that the broker does not have yet.

Any thread says something; the client's own writes it. Messages at QoS 1 are kept until the broker has them and said
again on the next connection. How much is kept is bounded: whoever says more waits.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from protocol import mqtt_codec as mqtt

_MAX_UNDER_WAY = 128  # messages at QoS 1 that the broker does not have yet: 8 MB of chunks
_MAX_UNSENT_BYTES = 8 << 20
_WRITE_BYTES = 256 << 10
_LOOK_S = 0.2

_Message = tuple[str, bytes, bool, int | None]  # topic, payload, whether it is retained, seconds until it expires


class Waker:
    """Has a thread return that waits for sockets in `poll`; as few bytes as can be are written for it."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self._woken = False

    @property
    def readable(self) -> socket.socket:
        """What the thread is to wait for, too."""
        return self._ends[0]

    def wake(self) -> None:
        """Wake it, unless it is awake and has yet to look what there is to do."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):  # full: it is awake; closed: it is over
                self._ends[1].send(b"\0")

    def heard(self) -> None:
        """By the thread, once that is readable, before it looks what there is to do."""
        with contextlib.suppress(BlockingIOError):
            self._ends[0].recv(4096)
        # Last: had somebody woken it in between, the byte would be gone and nobody could wake it any more.
        self._woken = False

    def close(self) -> None:
        """Let go of its sockets."""
        for end in self._ends:
            end.close()


class Outbox:
    """Safe to use from several threads; nothing of it touches the connection.

    Attributes:
        connection: Number of the connection that there is, or was last, from 1.
        online: Whether there is one.
        closing: Whether nothing is to wait any more.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake`` has the client's thread look what there is to write."""
        self.connection = 0
        self.online = self.closing = False
        self._wake = wake
        self._changed = threading.Condition()  # guards what follows
        self._unsent = bytearray()
        self._under_way: OrderedDict[int, _Message] = OrderedDict()
        self._waiting: deque[_Message] = deque()
        self._may_be_under_way = _MAX_UNDER_WAY
        self._mid = 0

    @property
    def roomy(self) -> bool:
        """Whether so little is on its way that a message can be handed over without waiting."""
        return len(self._under_way) + len(self._waiting) < _MAX_UNDER_WAY and len(self._unsent) <= _MAX_UNSENT_BYTES

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool = False,
        expiry_s: int | None = None,
        wait: bool = True,
    ) -> bool:
        """Hand a message over; waits while too many are on their way, but where ``wait`` is false.

        Returns:
            Whether it was handed over; once `give_up` was called nothing waits.
        """
        with self._changed:
            while wait and not self.roomy:
                if self.closing:
                    return False
                self._changed.wait(_LOOK_S)
            if qos:
                self._waiting.append((topic, payload, retain, expiry_s))
                self._send_waiting()
            elif self.online:
                self._unsent += mqtt.publish(topic, payload, retain=retain, expiry_s=expiry_s)
        self._wake()
        return True

    def say(self, packet: bytes, connection: int | None = None) -> None:
        """Send a packet at once; nothing where there is no connection, or another than the one named."""
        with self._changed:
            if self.online and connection in (None, self.connection):
                self._unsent += packet
        self._wake()

    def give_up(self) -> None:
        """Let nothing wait for room any more."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    def rest(self, delay_s: float) -> None:
        """Wait so long, unless `give_up` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing, delay_s)

    def wait_until_said(self, timeout_s: float) -> None:
        """Until the broker has all there is, or the connection is gone."""
        with self._changed:
            self._changed.wait_for(
                lambda: not (self.online and (self._unsent or self._under_way or self._waiting)), timeout_s
            )

    def wait_until_written(self, timeout_s: float) -> None:
        """Until all bytes are written, or the connection is gone."""
        with self._changed:
            self._changed.wait_for(lambda: not (self.online and self._unsent), timeout_s)

    # Below: called by the client on its own thread.

    def begin(self, receive_maximum: int) -> None:
        """There is a new connection: say again what the broker does not have, of which it takes so many at a time."""
        with self._changed:
            self.connection += 1
            self.online = True
            self._may_be_under_way = min(_MAX_UNDER_WAY, receive_maximum)
            for mid, message in self._under_way.items():
                self._unsent += _encoded(message, mid, again=True)
            self._send_waiting()

    def lose(self) -> None:
        """The connection is gone, and what was to be written on it."""
        with self._changed:
            self.online = False
            self._unsent.clear()
            self._changed.notify_all()

    def acknowledged(self, mid: int) -> None:
        """The broker has a message."""
        with self._changed:
            self._under_way.pop(mid, None)
            self._send_waiting()
            self._changed.notify_all()

    def next_bytes(self) -> bytes:
        """What to write next."""
        with self._changed:
            return bytes(self._unsent[:_WRITE_BYTES])

    def written(self, count: int) -> bool:
        """So many bytes of that were written; whether there are more to write."""
        with self._changed:
            del self._unsent[:count]
            if count:
                self._changed.notify_all()
            return bool(self._unsent)

    def _send_waiting(self) -> None:
        """With the lock held: send what may be under way."""
        while self.online and self._waiting and len(self._under_way) < self._may_be_under_way:
            message = self._waiting.popleft()
            self._mid = self._mid % (mqtt.MAX_MID - 1) + 1  # the last one is for subscriptions
            self._under_way[self._mid] = message
            self._unsent += _encoded(message, self._mid)


def _encoded(message: _Message, mid: int, *, again: bool = False) -> bytes:
    topic, payload, retain, expiry_s = message
    return mqtt.publish(topic, payload, mid, retain=retain, again=again, expiry_s=expiry_s)
