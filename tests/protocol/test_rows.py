"""Rows of a table on the wire."""

from __future__ import annotations

import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.errors import MalformedMessageError, OversizeError, ProtocolError, SchemaMismatchError
from protocol.rows import MAGIC, RowBlock, RowColumn, TableRows, decode_rows, encode_rows, rows_version, shards_of
from tests.protocol.strategies import PROPERTY, table_rows

VERSION = "a" * 64
TABLE = TableRows(VERSION, "item", 1000, 64, (RowColumn("embedding", 2), RowColumn("bias", 1)))


def block(ids: list[int]) -> RowBlock:
    """Rows that say whose they are."""
    values = np.repeat(np.array(ids, np.float32)[:, np.newaxis], TABLE.width, axis=1)
    return RowBlock(VERSION, np.array(ids, np.int32), values)


_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@PROPERTY
@given(
    st.sets(st.integers(0, 999), max_size=30).flatmap(
        lambda ids: st.tuples(st.just(sorted(ids)), hnp.arrays(np.float32, (len(ids), 3), elements=_FLOATS))
    ),
    st.booleans(),
)
def test_rows_come_back_bit_by_bit(drawn: tuple[list[int], np.ndarray], zstd: bool) -> None:  # type: ignore[type-arg]
    """Any ids and finite values, with either compression."""
    ids, values = drawn
    sent = RowBlock(VERSION, np.array(ids, np.int32), values)
    got = decode_rows(encode_rows(sent, zstd=zstd), TABLE, max_rows=30)
    assert (got.version, got.ids.tolist()) == (VERSION, ids)
    assert got.values.tobytes() == values.tobytes()


def test_rows_of_another_version_are_refused() -> None:
    """They belong to another model; both versions are named."""
    other = RowBlock("b" * 64, np.array([1], np.int32), np.zeros((1, 3), np.float32))
    with pytest.raises(SchemaMismatchError, match=r"version 'b{12}', the model's are 'a{12}'"):
        decode_rows(encode_rows(other), TABLE, max_rows=10)


@pytest.mark.parametrize("ids", [[3, 3], [3, 2], [-1, 2], [999, 1000]])
def test_ids_that_are_not_ascending_in_the_table_are_refused(ids: list[int]) -> None:
    """Doubled, out of order, or outside."""
    with pytest.raises(MalformedMessageError, match="ids are not ascending within the 1000 of item"):
        decode_rows(encode_rows(block(ids)), TABLE, max_rows=10)


def test_more_rows_than_allowed_are_refused() -> None:
    """Before anything is decoded."""
    with pytest.raises(OversizeError):
        decode_rows(encode_rows(block([1, 2, 3])), TABLE, max_rows=2)
    header = msgpack.packb({"version": VERSION, "rows": 1 << 40, "columns": [[0, 0], [0, 0]]})
    with pytest.raises(OversizeError):
        decode_rows(MAGIC + struct.pack("<I", len(header)) + header, TABLE, max_rows=1 << 50)


def test_a_value_that_is_not_finite_is_refused() -> None:
    """It would spoil every sample that has the item."""
    broken = block([1, 2])
    broken.values[1, 1] = np.nan
    with pytest.raises(MalformedMessageError, match="not finite"):
        decode_rows(encode_rows(broken), TABLE, max_rows=10)


@PROPERTY
@given(st.binary(max_size=80), st.integers(0, 200), st.integers(1, 255))
def test_whatever_arrives_is_read_or_refused(noise: bytes, at: int, flip: int) -> None:
    """Random bytes and damaged blocks raise nothing but the contract's errors."""
    damaged = bytearray(encode_rows(block(list(range(20)))))
    damaged[at % len(damaged)] ^= flip
    for payload in (noise, MAGIC + noise, bytes(damaged), bytes(damaged[: at % len(damaged)])):
        try:
            decode_rows(payload, TABLE, max_rows=20)
        except ProtocolError:
            continue


@PROPERTY
@given(table_rows)
def test_a_table_survives_as_plain_values(table: TableRows) -> None:
    """Files keep what it is."""
    assert TableRows.from_dict(table.to_dict()) == table


@pytest.mark.parametrize(
    "change",
    [{"slots": 1}, {"slots": 8193}, {"vocabulary": 1}, {"version": "x"}, {"columns": []}, {"colour": 1}],
)
def test_a_table_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    """Bounds keep a task from asking for the device's whole memory."""
    with pytest.raises(MalformedMessageError):
        TableRows.from_dict({**TABLE.to_dict(), **change})


def test_versions_and_shards() -> None:
    """A version hangs on every value and on the model; ids lie in shards of 16."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert rows_version(values, VERSION) == rows_version(values.copy(order="F"), VERSION)
    assert rows_version(values, VERSION) != rows_version(values, "b" * 64)
    assert shards_of(np.array([40, 0, 15, 16], np.int32)).tolist() == [0, 1, 2]
    assert TABLE.shards == 63
