"""Telling MQTT packets apart in a stream of bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.messages import MESSAGES
from protocol.mqtt_packets import PacketMeter
from protocol.purposes import CONTROL, MODEL, PURPOSES, QUERY, REPORT, SAMPLES, TRANSFER_KINDS, purpose_of
from tests.protocol.strategies import PROPERTY

QUERY_TOPIC, REPORT_TOPIC = topics.up("f", "d", "query"), topics.up("f", "d", "report")


def _packet(first: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([first]) + bytes(length) + body


def _publish(topic: str, payload: bytes) -> bytes:
    return _packet(0x32, len(topic).to_bytes(2, "big") + topic.encode() + b"\0\1" + b"\0" + payload)


def _fed(data: bytes, cuts: list[int]) -> tuple[dict[str, int], PacketMeter]:
    meter, counts = PacketMeter(lambda topic: purpose_of(topic, SAMPLES)), dict.fromkeys(PURPOSES, 0)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        for purpose, count in meter.feed(data[begin:end]).items():
            counts[purpose] += count
    return counts, meter


@PROPERTY
@given(
    st.lists(st.tuples(st.sampled_from(["query", "report", "ping", "chunk"]), st.integers(0, 300)), max_size=6),
    st.lists(st.integers(0, 5000), max_size=8),
)
def test_each_packet_counts_for_its_own_purpose(sent: list[tuple[str, int]], cuts: list[int]) -> None:
    """Whatever pieces the stream comes in."""
    data, wanted = b"", dict.fromkeys(PURPOSES, 0)
    for kind, size in sent:
        packet = _packet(0xC0, b"") if kind == "ping" else _publish(topics.up("f", "d", kind), bytes(size))
        data += packet
        wanted[{"query": QUERY, "report": REPORT, "ping": CONTROL, "chunk": SAMPLES}[kind]] += len(packet)
    counts, meter = _fed(data, cuts)
    assert counts == wanted
    assert meter.end() == {}


@PROPERTY
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_no_byte_is_lost_or_counted_twice(data: bytes, cuts: list[int]) -> None:
    """Also of what is no MQTT at all, and of a packet that was cut off."""
    counts, meter = _fed(data, cuts)
    held_back = meter.end()
    assert set(held_back) <= {CONTROL}
    assert sum(counts.values()) + sum(held_back.values()) == len(data)


def test_a_new_connection_begins_with_a_new_packet() -> None:
    """What was left of the old one's packet is forgotten."""
    counts, meter = _fed(_publish(QUERY_TOPIC, bytes(100))[:50], [])
    assert counts[QUERY] == 50
    meter.end()
    packet = _publish(REPORT_TOPIC, bytes(10))
    assert meter.feed(packet) == {REPORT: len(packet)}


def test_a_topic_longer_than_its_packet_is_nobodys() -> None:
    """A packet that lies about its topic counts as control, and the next one as what it is."""
    packet = _publish(QUERY_TOPIC, b"x")
    counts, _ = _fed(_packet(0x32, b"\xff\xff" + b"a" * 20) + packet, [])
    assert counts == {**dict.fromkeys(PURPOSES, 0), CONTROL: 24, QUERY: len(packet)}


@pytest.mark.parametrize(
    ("topic", "purpose"),
    [
        (topics.up("f", "d", "query"), QUERY),
        (topics.down("f", "d", "match"), SAMPLES),
        (topics.up("f", "d", "contribution"), SAMPLES),
        (topics.down("f", "d", "rows"), MODEL),
        (topics.down("f", "d", "task"), CONTROL),
        (topics.down("f", "d", "chunk"), "asked"),
        (topics.up("f", "d", "pull"), "asked"),
        (topics.shared_chunk("f", "a" * 64, 3), MODEL),
        (topics.down("f", "blob", "task"), CONTROL),
        ("another/topic", CONTROL),
    ],
)
def test_topics_have_purposes(topic: str, purpose: str) -> None:
    """By their kind; a part of a blob is for what the blob was asked for."""
    assert purpose_of(topic, "asked") == purpose


def test_every_kind_has_a_purpose() -> None:
    """A new kind of message is not counted as control by oversight."""
    control = {"presence", "hello", "task", "accepted", "refusal", "busy"}
    for direction, kind in MESSAGES:
        topic = topics.up("f", "d", kind) if direction == "up" else topics.down("f", "d", kind)
        assert kind in control or kind in TRANSFER_KINDS or purpose_of(topic, CONTROL) != CONTROL, kind
