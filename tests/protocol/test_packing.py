from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessageError
from protocol.packing import MAX_DEPTH, MAX_ITEMS, pack, unpack
from tests.protocol.strategies import PROPERTY, plain_maps


@PROPERTY
@given(plain_maps)
def test_plain_maps_round_trip(values: dict[str, Any]) -> None:
    """Plain values come back as they were."""
    assert unpack(pack(values), "test") == values


def _nested(levels: int) -> dict[str, Any]:
    value: Any = 0
    for _ in range(levels):
        value = {"a": value}
    return {"a": value}


def test_bounds_are_inclusive() -> None:
    """The most items and the deepest nesting pass, one more does not."""
    deepest = _nested(MAX_DEPTH - 2)
    assert unpack(pack(deepest), "test") == deepest
    with pytest.raises(MalformedMessageError, match="test: nested deeper than 12"):
        unpack(pack(_nested(MAX_DEPTH - 1)), "test")
    assert len(unpack(pack({"a": [0] * MAX_ITEMS}), "test")["a"]) == MAX_ITEMS
    for crowded in ({"a": [0] * (MAX_ITEMS + 1)}, {str(i): 0 for i in range(MAX_ITEMS + 1)}):
        with pytest.raises(MalformedMessageError):
            unpack(pack(crowded), "test")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"\x90",
        pack({"a": 1}) + b"\0",
        pack({"a": "text"})[:-1],
        msgpack.packb({1: 1}),
        msgpack.packb({b"a": 1}),
        msgpack.packb({"a": {b"a": 1}}),
        msgpack.packb({"a": msgpack.ExtType(5, b"")}),
        msgpack.packb({"a": [msgpack.Timestamp(1)]}),
        b"\x81\xa1a\xa2\xff\xfe",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
    ],
)
def test_what_is_not_a_plain_map_is_refused(payload: bytes) -> None:
    """Damage, other types, keys that are not text, and headers that announce more than there is."""
    with pytest.raises(MalformedMessageError, match="test"):
        unpack(payload, "test")


@PROPERTY
@given(st.binary(max_size=60))
def test_any_bytes_unpack_or_are_refused(payload: bytes) -> None:
    """Nothing but a MalformedMessageError escapes."""
    with suppress(MalformedMessageError):
        assert isinstance(unpack(payload, "test"), dict)
