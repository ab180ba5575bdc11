"""MQTT packets: what is written is read again, by our reader and by another's, and nothing else is believed."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import mqtt_codec as mqtt
from protocol.errors import MalformedMessageError
from tests.protocol.strategies import PROPERTY

_published = st.tuples(
    st.text(min_size=1, max_size=8),
    st.binary(max_size=300),
    st.integers(0, mqtt.MAX_MID),
    st.booleans(),
    st.none() | st.integers(1, 1 << 31),
)


@PROPERTY
@given(st.lists(_published, max_size=5), st.integers(1, 50))
def test_packets_are_read_from_pieces_of_any_size(
    said: list[tuple[str, bytes, int, bool, int | None]], piece: int
) -> None:
    """What was published comes out as it went in, however the line cuts it; without an identifier it is of QoS 0."""
    line = b"".join(
        mqtt.publish(topic, payload, mid, retain=retain, again=mid > 0, expiry_s=expiry_s)
        for topic, payload, mid, retain, expiry_s in said
    )
    reader, heard = mqtt.Reader(), list[mqtt.Packet]()
    for begin in range(0, len(line), piece):
        heard += reader.feed(line[begin : begin + piece])
    assert [(one.topic, one.payload, one.mid) for one in heard] == [one[:3] for one in said]
    assert [(one.kind, one.qos) for one in heard] == [(mqtt.PUBLISH, int(one[2] > 0)) for one in said]


@PROPERTY
@given(st.binary(max_size=200))
def test_bytes_that_are_no_mqtt_are_refused_or_passed_over(data: bytes) -> None:
    """Whatever comes, there is no error but ours, and nothing is allocated for what is only promised."""
    with contextlib.suppress(MalformedMessageError):
        mqtt.Reader().feed(data)


@pytest.mark.parametrize(
    ("properties", "receive_maximum"),
    [
        (b"", mqtt.MAX_MID),
        (b"\x21\x00\x14", 20),
        (b"\x22\x00\x0a\x12\x00\x02ab\x27\x00\x10\x00\x00\x21\x00\x64", 100),
        (b"\x26\x00\x01a\x00\x02bc\x24\x01\x21\x00\x01", 1),
    ],
)
def test_what_the_broker_bears_is_read_from_its_welcome(properties: bytes, receive_maximum: int) -> None:
    """Its receive maximum, among whatever else it says of itself; 65,535 where it says nothing."""
    body = b"\0\0" + bytes([len(properties)]) + properties
    [packet] = mqtt.Reader().feed(bytes([mqtt.CONNACK << 4, len(body)]) + body)
    assert (packet.kind, packet.reason, packet.receive_maximum) == (mqtt.CONNACK, 0, receive_maximum)


@pytest.mark.parametrize(
    ("packet", "kind", "mid", "reason"),
    [
        (mqtt.puback(7), mqtt.PUBACK, 7, 0),
        (b"\x40\x04\x00\x07\x10\x00", mqtt.PUBACK, 7, 0x10),
        (b"\x90\x04\x00\x07\x00\x87", mqtt.SUBACK, 7, 0x87),
        (b"\xb0\x04\x00\x07\x00\x11", mqtt.UNSUBACK, 7, 0x11),
        (mqtt.disconnect(), mqtt.DISCONNECT, 0, 0),
        (mqtt.pingreq(), mqtt.PINGREQ, 0, 0),
    ],
)
def test_answers_say_what_they_answer_and_how(packet: bytes, kind: int, mid: int, reason: int) -> None:
    """Identifier and reason, where a packet has them."""
    [found] = mqtt.Reader().feed(packet)
    assert (found.kind, found.mid, found.reason) == (kind, mid, reason)


def test_a_connect_begins_anew_unless_its_session_is_kept() -> None:
    """Clean start without an expiry; with one, the broker's session is gone on with."""
    anew = mqtt.connect("sim", keepalive_s=9, receive_maximum=20, will=("topic", b"gone"))
    kept = mqtt.connect("cloud", keepalive_s=9, receive_maximum=20, session_expiry_s=3600)
    assert (anew[9], kept[9]) == (0x02 | 0x04 | 0x08 | 0x20, 0)
    assert struct.pack(">I", 3600) in kept
    assert anew.endswith(b"\0\0\5topic\0\4gone")
