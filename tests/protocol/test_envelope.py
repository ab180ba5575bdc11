from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.envelope import MAX_MESSAGE_ID_LENGTH, decode, encode
from protocol.errors import MalformedMessageError, OversizeError, ProtocolError, SchemaMismatchError
from protocol.messages import MESSAGES, Accepted, Contribution, Match, Message, Presence, Pull
from protocol.topics import MAX_MESSAGE_BYTES, SCHEMA_VERSION
from tests.protocol.strategies import MESSAGE_STRATEGIES, PROPERTY, messages, plain_values

SHA = "0123456789abcdef" * 4
ids = st.text(min_size=1, max_size=MAX_MESSAGE_ID_LENGTH)


def test_every_message_has_a_strategy() -> None:
    """The properties below cover the whole contract."""
    assert set(MESSAGE_STRATEGIES) == set(MESSAGES.values())


@pytest.mark.parametrize("message_class", MESSAGE_STRATEGIES, ids=lambda cls: cls.kind)
def test_round_trip(message_class: type[Message]) -> None:
    """Every message comes back equal, with its id."""

    @settings(PROPERTY, max_examples=50)
    @given(MESSAGE_STRATEGIES[message_class], ids)
    def check(message: Message, message_id: str) -> None:
        envelope = decode(message.direction, message.kind, encode(message, message_id))
        assert (envelope.message, envelope.message_id) == (message, message_id)
        assert type(envelope.message) is message_class

    check()


def _decode_or_refuse(message: Message, payload: bytes) -> None:
    with suppress(ProtocolError):
        envelope = decode(message.direction, message.kind, payload)
        again = encode(envelope.message, envelope.message_id)
        assert encode(decode(message.direction, message.kind, again).message, envelope.message_id) == again


@settings(PROPERTY, max_examples=400)
@given(messages, st.data())
def test_mutated_bytes_decode_or_are_refused(message: Message, data: st.DataObject) -> None:
    """Bytes changed, cut out or slipped in: nothing but a ProtocolError escapes."""
    payload = bytearray(encode(message, "m1"))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(payload)))
        stop = start + data.draw(st.integers(0, 4))
        payload[start:stop] = data.draw(st.binary(max_size=4))
    _decode_or_refuse(message, bytes(payload))


@settings(PROPERTY, max_examples=400)
@given(messages, st.data())
def test_mutated_values_decode_or_are_refused(message: Message, data: st.DataObject) -> None:
    """Well-formed msgpack with a field replaced, dropped or added somewhere: again only a ProtocolError escapes."""
    values: dict[str, Any] = msgpack.unpackb(encode(message, "m1"))
    level = data.draw(st.sampled_from(_maps(values)))
    key = data.draw(st.sampled_from(sorted(level)) | st.text(max_size=3) if level else st.text(max_size=3))
    if data.draw(st.booleans()):
        level[key] = data.draw(plain_values)
    else:
        level.pop(key, None)
    _decode_or_refuse(message, msgpack.packb(values))


def _maps(values: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [level for value in values.values() if isinstance(value, dict) for level in _maps(value)]
    return [values, *inner]


def _packed(message: Message, **changes: object) -> bytes:
    packed: bytes = msgpack.packb({**msgpack.unpackb(encode(message, "m1")), **changes})
    return packed


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, True, 1.0, "1", None, "x" * 5000])
def test_another_schema_version_is_told_apart(version: object) -> None:
    """A peer of another version gets its own error, whatever else has changed, so that it can be told to update."""
    payload = msgpack.packb({"v": version, "k": "unheard-of", "new": [1, 2]})
    with pytest.raises(SchemaMismatchError, match="this side speaks 1"):
        decode("up", "presence", payload)


@pytest.mark.parametrize("message_id", ["", "x" * (MAX_MESSAGE_ID_LENGTH + 1), 5, None])
def test_message_id_is_required_and_bounded(message_id: object) -> None:
    """An effect happens once by its message's id, so there must be one; neither side lets another through."""
    with pytest.raises(MalformedMessageError, match="an id of 1 to 64"):
        decode("up", "presence", _packed(Presence(True), id=message_id))
    with pytest.raises(MalformedMessageError, match="an id of 1 to 64"):
        encode(Presence(True), message_id)  # type: ignore[arg-type]


def test_kind_must_be_the_topics_own() -> None:
    """A message cannot arrive under another kind or from the other direction."""
    payload = encode(Presence(True), "m1")
    for direction, kind in (("up", "hello"), ("down", "presence"), ("up", "unheard-of")):
        with pytest.raises(MalformedMessageError, match="says it is 'presence'"):
            decode(direction, kind, payload)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "no body"),
        ([True], "no body"),
        ({}, r"missing fields \['online'\]"),
        ({"online": True, "offline": False}, r"unknown fields \['offline'\]"),
        ({"online": 1}, "int where"),
        ({"online": None}, "NoneType where"),
    ],
)
def test_body_must_be_the_messages_own(body: object, says: str) -> None:
    """No field may lack, be unknown, or be of a type that merely resembles its own."""
    with pytest.raises(MalformedMessageError, match=says):
        decode("up", "presence", _packed(Presence(True), b=body))


def test_nested_and_listed_values_are_checked() -> None:
    """The error names the field inside."""
    match_body = {"query_id": "q1", "count": 1, "samples": {"sha256": SHA, "size_bytes": "1"}, "rows": None}
    with pytest.raises(MalformedMessageError, match=r"match\.samples\.size_bytes: a str"):
        decode("down", "match", _packed(Match("q1", 0, None), b=match_body))
    with pytest.raises(MalformedMessageError, match=r"pull\.chunks: a float"):
        decode("up", "pull", _packed(Pull(SHA, (1,)), b={"blob": SHA, "chunks": [1.5], "chunk_bytes": 4096}))


def test_oversize_is_refused_on_both_sides() -> None:
    """A payload over the bound is neither sent nor read, and the bound itself is."""
    overhead = len(encode(Contribution(bytes(1 << 17)), "m1")) - (1 << 17)
    largest = encode(Contribution(bytes(MAX_MESSAGE_BYTES - overhead)), "m1")
    assert len(largest) == MAX_MESSAGE_BYTES
    assert decode("up", "contribution", largest).message_id == "m1"
    with pytest.raises(OversizeError) as refused:
        encode(Contribution(bytes(MAX_MESSAGE_BYTES - overhead + 1)), "m1")
    assert refused.value.limit_bytes == MAX_MESSAGE_BYTES
    with pytest.raises(OversizeError):
        decode("up", "contribution", largest + b"\0")
    with pytest.raises(OversizeError):
        encode(Accepted("m0"), "m1", limit_bytes=10)
