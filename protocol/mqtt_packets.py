"""Following one direction of an MQTT connection, to tell what its bytes are for.

Sans-IO: bytes in, in pieces of any size, byte counts by purpose out. Only a PUBLISH names a topic; every other packet
is the protocol's own and counts as control.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.purposes import CONTROL

_PUBLISH = 3
_MAX_LENGTH_BYTES = 4

Counts = dict[str, int]


class PacketMeter:
    """Tells the bytes of each packet apart. Bytes that follow what is no MQTT count as control.

    Args:
        purpose_of_topic: What a message under a topic is for.
    """

    def __init__(self, purpose_of_topic: Callable[[str], str]) -> None:
        self._purpose_of_topic = purpose_of_topic
        self._head = bytearray()  # of a packet, until it says what it is for
        self._purpose = CONTROL
        self._left = 0  # bytes still to come of the packet whose purpose is known
        self._lost = False

    def feed(self, data: bytes | memoryview) -> Counts:
        """Bytes by purpose, of ``data`` and of what was held back; the begin of a packet is held back until it says."""
        counts: Counts = {}
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._lost:
                self._left = end - at
            elif not self._left and not self._head:
                self._begin_whole(view, at)
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                counts[self._purpose] = counts.get(self._purpose, 0) + taken
            else:
                taken = min(self._wanted(), end - at)
                self._head += view[at : at + taken]
                self._try_head(counts)
            at += taken
        return counts

    def end(self) -> Counts:
        """The connection is gone: what was held back counts as control, and another may begin."""
        counts = {CONTROL: len(self._head)} if self._head else {}
        self._head.clear()
        self._left, self._lost = 0, False
        return counts

    def _begin_whole(self, view: memoryview, at: int) -> None:
        """Begin the packet at ``at`` if its head is all there, as nearly always: byte by byte costs far more."""
        start, remaining = _length(view[at : at + 1 + _MAX_LENGTH_BYTES])
        if start is None:
            return
        topic_at, purpose = at + start + 2, CONTROL
        if view[at] >> 4 == _PUBLISH and remaining >= 2:
            if topic_at > len(view):
                return
            topic_end = topic_at + (view[topic_at - 2] << 8 | view[topic_at - 1])
            if topic_end - topic_at <= remaining - 2:
                if topic_end > len(view):
                    return
                purpose = self._purpose_of_topic(str(view[topic_at:topic_end], errors="replace"))
        self._purpose, self._left = purpose, start + remaining

    def _wanted(self) -> int:
        """Bytes that belong to the head for sure."""
        start, _ = _length(self._head)
        if start is None:
            return 1
        topic_at = start + 2
        if len(self._head) < topic_at:
            return topic_at - len(self._head)
        return topic_at + int.from_bytes(self._head[start:topic_at], "big") - len(self._head)

    def _try_head(self, counts: Counts) -> None:
        start, remaining = _length(self._head)
        if start is None:
            self._lost = len(self._head) > _MAX_LENGTH_BYTES
            if self._lost:
                self._settle(CONTROL, 0, counts)
            return
        if self._head[0] >> 4 != _PUBLISH:
            self._settle(CONTROL, start + remaining, counts)
            return
        topic_at = start + 2
        if remaining < 2:
            self._settle(CONTROL, start + remaining, counts)
        elif len(self._head) >= topic_at:
            topic_bytes = int.from_bytes(self._head[start:topic_at], "big")
            if 2 + topic_bytes > remaining:
                self._settle(CONTROL, start + remaining, counts)
            elif len(self._head) >= topic_at + topic_bytes:
                topic = self._head[topic_at : topic_at + topic_bytes].decode(errors="replace")
                self._settle(self._purpose_of_topic(topic), start + remaining, counts)

    def _settle(self, purpose: str, packet_bytes: int, counts: Counts) -> None:
        counts[purpose] = counts.get(purpose, 0) + len(self._head)
        self._purpose, self._left = purpose, max(packet_bytes - len(self._head), 0)
        self._head.clear()


def _length(head: bytearray | memoryview) -> tuple[int | None, int]:
    """Where the part behind a packet's length begins, None if it is not known yet, and how long that part is."""
    remaining = 0
    for place, byte in enumerate(head[1 : 1 + _MAX_LENGTH_BYTES]):
        remaining |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return place + 2, remaining
    return None, 0
