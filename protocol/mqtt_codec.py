"""MQTT 5 packets as the fleet's own clients speak them: to bytes and back, no sockets.

What is written: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PUBACK, PINGREQ, DISCONNECT. What is read: CONNACK, SUBACK,
UNSUBACK, PUBLISH at QoS 0 and 1, PUBACK, DISCONNECT; other packets are passed over. Source: OASIS, "MQTT Version 5.0",
2019, section 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from protocol.errors import MalformedMessageError

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 1, 2, 3, 4, 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14
MAX_PACKET_BYTES = 4 << 20
MAX_MID = 65_535
FAILURE = 0x80  # reason codes from here on say no
_MESSAGE_EXPIRY, _SESSION_EXPIRY, _RECEIVE_MAXIMUM = 0x02, 0x11, 0x21
# Bytes of the properties that a CONNACK may have before those whose length they say themselves.
_FIXED = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
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
        receive_maximum: Of a CONNACK: messages that may be under way to the broker.
    """

    kind: int
    topic: str = ""
    payload: bytes = b""
    mid: int = 0
    qos: int = 0
    reason: int = 0
    receive_maximum: int = MAX_MID


def connect(
    client_id: str, *, keepalive_s: int, receive_maximum: int, session_expiry_s: int = 0,
    will: tuple[str, bytes] | None = None,
) -> bytes:  # fmt: skip
    """A CONNECT; into the session that is there, where one is to be kept, else anew.

    Args:
        client_id: Who connects.
        keepalive_s: The longest silence.
        receive_maximum: Messages that may be under way from the broker.
        session_expiry_s: How long the broker keeps the session afterwards.
        will: Topic and payload of a retained last will at QoS 1.
    """
    clean, willing = 0x02 * (session_expiry_s == 0), (0x04 | 0x08 | 0x20) * (will is not None)
    expiry = struct.pack(">BI", _SESSION_EXPIRY, session_expiry_s) if session_expiry_s else b""
    properties = _with_length(expiry + struct.pack(">BH", _RECEIVE_MAXIMUM, receive_maximum))
    body = _text("MQTT") + struct.pack(">BBH", 5, clean | willing, keepalive_s) + properties + _text(client_id)
    if will is not None:
        body += b"\0" + _text(will[0]) + struct.pack(">H", len(will[1])) + will[1]
    return _packet(CONNECT << 4, body)


def subscribe(mid: int, topic: str) -> bytes:
    """A SUBSCRIBE to one topic at QoS 1."""
    return _packet(SUBSCRIBE << 4 | 2, struct.pack(">HB", mid, 0) + _text(topic) + b"\1")


def unsubscribe(mid: int, topic: str) -> bytes:
    """An UNSUBSCRIBE from one topic."""
    return _packet(UNSUBSCRIBE << 4 | 2, struct.pack(">HB", mid, 0) + _text(topic))


def publish(
    topic: str, payload: bytes, mid: int = 0, *, retain: bool = False, again: bool = False, expiry_s: int | None = None
) -> bytes:
    """A PUBLISH at QoS 1, or at QoS 0 where it has no ``mid``.

    Args:
        topic: Where.
        payload: What.
        mid: Packet identifier.
        retain: Whether the broker is to keep it.
        again: Whether it was sent before.
        expiry_s: How long the broker keeps it.
    """
    properties = b"\0" if expiry_s is None else b"\5" + struct.pack(">BI", _MESSAGE_EXPIRY, expiry_s)
    head = PUBLISH << 4 | 8 * again | 2 * (mid > 0) | retain
    return _packet(head, _text(topic) + (struct.pack(">H", mid) if mid else b"") + properties + payload)


def puback(mid: int) -> bytes:
    """A PUBACK of success."""
    return struct.pack(">BBH", PUBACK << 4, 2, mid)


def pingreq() -> bytes:
    """A PINGREQ."""
    return _packet(PINGREQ << 4, b"")


def disconnect(*, forget: bool = False) -> bytes:
    """A DISCONNECT; the broker is to ``forget`` the session, or keeps it as was said when it began."""
    properties = _with_length(struct.pack(">BI", _SESSION_EXPIRY, 0) if forget else b"")
    return _packet(DISCONNECT << 4, b"\0" + properties)


class Reader:
    """Packets out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now.

        Raises:
            MalformedMessageError: If the bytes are no MQTT, or a packet is larger than any broker of ours sends.
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
                raise MalformedMessageError(f"MQTT: a packet of {length} bytes")
            begin = at + 2 + place
            return (begin, begin + length) if len(data) >= begin + length else None
    raise MalformedMessageError("MQTT: a packet whose length does not end")


def _read(head: int, body: bytes) -> Packet:
    kind = head >> 4
    try:
        if kind == PUBLISH:
            return _read_publish(head, body)
        if kind == CONNACK:
            return Packet(kind, reason=body[1], receive_maximum=_receive_maximum(body))
        if kind in (PUBACK, SUBACK, UNSUBACK):
            (mid,) = struct.unpack_from(">H", body)
            return Packet(kind, mid=mid, reason=body[2 if kind == PUBACK else -1] if len(body) > 2 else 0)
        if kind == DISCONNECT:
            return Packet(kind, reason=body[0] if body else 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedMessageError(f"MQTT: a packet of type {kind} that ends too early") from error
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


def _receive_maximum(body: bytes) -> int:
    length, at = _varint(body, 2)
    end = at + length
    while at < end:
        name, at = body[at], at + 1
        if name == _RECEIVE_MAXIMUM:
            (found,) = struct.unpack_from(">H", body, at)
            return max(1, int(found))
        texts = 2 if name == 0x26 else 1  # a user property is a pair of texts
        for _ in range(1 if name in _FIXED else texts):
            at += _FIXED[name] if name in _FIXED else 2 + int(struct.unpack_from(">H", body, at)[0])
    return MAX_MID


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_LENGTH_BYTES):
        byte = body[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise MalformedMessageError("MQTT: properties whose length does not end")


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
