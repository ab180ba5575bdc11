"""MQTT 5 as a light client speaks it: bytes to packets and back, no sockets.

What is written: CONNECT, SUBSCRIBE, PUBLISH, PUBACK, PINGREQ. What is read: CONNACK, SUBACK, PUBLISH, PUBACK,
DISCONNECT; other packets are passed over. Source: OASIS, "MQTT Version 5.0", 2019, section 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from coda.simulation.errors import BrokenPacketError

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 14
MAX_PACKET_BYTES = 4 << 20
FAILURE = 0x80  # reason codes from here on say no
_RECEIVE_MAXIMUM_PROPERTY = 0x21
_MAX_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Packet:
    """A packet that arrived.

    Attributes:
        kind: One of this module's numbers.
        topic: Of a PUBLISH; else empty.
        payload: Of a PUBLISH; else empty.
        mid: Packet identifier; 0 where it has none.
        qos: Of a PUBLISH.
        reason: Of an answer; 0 is well.
    """

    kind: int
    topic: str = ""
    payload: bytes = b""
    mid: int = 0
    qos: int = 0
    reason: int = 0


def connect(client_id: str, *, keepalive_s: int, receive_maximum: int, will_topic: str, will: bytes) -> bytes:
    """A CONNECT that begins anew, with a retained last will at QoS 1."""
    flags = 0x02 | 0x04 | (1 << 3) | 0x20  # clean start, will, its QoS 1, will retained
    properties = _with_length(struct.pack(">BH", _RECEIVE_MAXIMUM_PROPERTY, receive_maximum))
    body = _text("MQTT") + struct.pack(">BBH", 5, flags, keepalive_s) + properties + _text(client_id)
    return _packet(CONNECT << 4, body + b"\0" + _text(will_topic) + struct.pack(">H", len(will)) + will)


def subscribe(mid: int, topic: str) -> bytes:
    """A SUBSCRIBE to one topic at QoS 1."""
    return _packet(SUBSCRIBE << 4 | 2, struct.pack(">HB", mid, 0) + _text(topic) + b"\1")


def publish(topic: str, payload: bytes, mid: int, *, retain: bool = False) -> bytes:
    """A PUBLISH at QoS 1."""
    return _packet(PUBLISH << 4 | 2 | int(retain), _text(topic) + struct.pack(">HB", mid, 0) + payload)


def puback(mid: int) -> bytes:
    """A PUBACK of success."""
    return _packet(PUBACK << 4, struct.pack(">H", mid))


def pingreq() -> bytes:
    """A PINGREQ."""
    return _packet(PINGREQ << 4, b"")


class Reader:
    """Packets out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now.

        Raises:
            BrokenPacketError: If the bytes are no MQTT, or a packet is larger than any broker of ours sends.
        """
        self._held += data
        packets, at = [], 0
        while (found := _whole(self._held, at)) is not None:
            begin, end = found
            packets.append(_read(self._held[at], bytes(self._held[begin:end])))
            at = end
        del self._held[:at]
        return packets


def _whole(data: bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins at ``at`` lies; None while some of it is missing."""
    length = 0
    for place in range(_MAX_LENGTH_BYTES):
        if at + 1 + place >= len(data):
            return None
        byte = data[at + 1 + place]
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if length > MAX_PACKET_BYTES:
                raise BrokenPacketError(f"a packet of {length} bytes")
            begin = at + 2 + place
            return (begin, begin + length) if len(data) >= begin + length else None
    raise BrokenPacketError("a packet whose length does not end")


def _read(head: int, body: bytes) -> Packet:
    kind = head >> 4
    try:
        if kind == PUBLISH:
            return _read_publish(head, body)
        if kind == CONNACK:
            return Packet(kind, reason=body[1])
        if kind in (PUBACK, SUBACK):
            (mid,) = struct.unpack_from(">H", body)
            return Packet(kind, mid=mid, reason=body[-1] if len(body) > 2 else 0)
        if kind == DISCONNECT:
            return Packet(kind, reason=body[0] if body else 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BrokenPacketError(f"a packet of type {kind} that ends too early") from error
    return Packet(kind)


def _read_publish(head: int, body: bytes) -> Packet:
    qos = head >> 1 & 3
    (length,) = struct.unpack_from(">H", body)
    topic, at, mid = body[2 : 2 + length].decode(), 2 + length, 0
    if qos:
        (mid,) = struct.unpack_from(">H", body, at)
        at += 2
    properties, at = _varint(body, at)
    return Packet(PUBLISH, topic, body[at + properties :], mid, qos)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_LENGTH_BYTES):
        byte = body[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise BrokenPacketError("properties whose length does not end")


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _with_length(body)


def _with_length(body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, byte = left >> 7, left & 0x7F
        length.append(byte | (0x80 if left else 0))
        if not left:
            return bytes(length) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data
