from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.batch_codec import COMPACT_MAGIC, MAX_SAMPLES, PLAIN_MAGIC, decode_batch, encode_batch
from protocol.columns import Codec, encode_column
from protocol.errors import MalformedMessageError, OversizeError, ProtocolError, SchemaMismatchError
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import MAX_FEATURE_LENGTH, MAX_FEATURES, Feature, FeatureKind, FeatureSchema
from tests.protocol.strategies import PROPERTY, batches

SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, vocabulary=100, table="item"),
        Feature("genres", FeatureKind.MULTIVALUED, 3, 20, "genre"),
        Feature("price", FeatureKind.DENSE),
    )
)


def _batch(n: int = 40) -> SampleBatch:
    rng = np.random.default_rng(7)
    features = {
        "item": rng.integers(0, 100, n, np.int32),
        "genres": rng.integers(0, 20, (n, 3), np.int32),
        "price": rng.random((n, 1), np.float32),
    }
    label = rng.integers(0, 2, n).astype(np.float32)
    return SampleBatch(SCHEMA, features, label, np.arange(n, dtype=np.int64) * 60 + 1_600_000_000)


def _forge(arrays: list[NDArray[Any]] | None = None, /, **header: object) -> bytes:
    """A batch as a hostile peer could write it: a good one, but for the arrays and header fields given."""
    arrays = [array for _, array in _batch().columns()] if arrays is None else arrays
    packed = [encode_column(array) for array in arrays]
    fields = {
        "schema": SCHEMA.digest,
        "samples": len(arrays[0]),
        "columns": [[int(codec), len(data)] for codec, data in packed],
    }
    packed_header: bytes = msgpack.packb({**fields, **header})
    return PLAIN_MAGIC + struct.pack("<I", len(packed_header)) + packed_header + b"".join(data for _, data in packed)


def _assert_equal(got: SampleBatch, wanted: SampleBatch) -> None:
    assert got.schema == wanted.schema
    for (name, array), (wanted_name, wanted_array) in zip(got.columns(), wanted.columns(), strict=True):
        assert (name, array.dtype, array.shape) == (wanted_name, wanted_array.dtype, wanted_array.shape)
        assert array.tobytes() == wanted_array.tobytes()


@settings(PROPERTY, max_examples=150)
@given(batches(), st.booleans())
def test_round_trip_is_exact(batch: SampleBatch, zstd: bool) -> None:
    """Any batch of any schema comes back bit by bit, packed for either reader."""
    _assert_equal(decode_batch(encode_batch(batch, zstd=zstd), batch.schema), batch)


def test_forged_batch_without_a_change_is_a_good_one() -> None:
    """The forger writes the documented plain layout, so its other batches are refused for what they change."""
    _assert_equal(decode_batch(_forge(), SCHEMA), _batch())


def test_the_smaller_layout_is_written() -> None:
    """Samples that share their histories travel compact, a single one plain."""
    schema = FeatureSchema((Feature("seen", FeatureKind.SEQUENCE, 20, 10_000, "item"),))
    seen = np.lib.stride_tricks.sliding_window_view(np.arange(1, 120, dtype=np.int32), 20).copy()
    batch = SampleBatch(schema, {"seen": seen}, np.ones(100, np.float32), np.arange(100, dtype=np.int64))
    assert encode_batch(batch).startswith(COMPACT_MAGIC)
    assert encode_batch(batch.take(slice(1))).startswith(PLAIN_MAGIC)


def test_batch_for_a_reader_without_zstd_has_none() -> None:
    """Every column of it is raw or zlib."""
    payload = encode_batch(_batch(100), zstd=False)
    (header_bytes,) = struct.unpack_from("<I", payload, 4)
    codecs = set(msgpack.unpackb(payload[8 : 8 + header_bytes])["streams"][::2])
    assert codecs <= {Codec.RAW, Codec.ZLIB}


def test_other_features_are_refused() -> None:
    """Samples of another schema never reach a model, even where the bytes would fit."""
    larger = Feature("item", FeatureKind.CATEGORICAL, vocabulary=101, table="item")
    other = FeatureSchema((larger, *SCHEMA.features[1:]))
    with pytest.raises(SchemaMismatchError, match=SCHEMA.digest):
        decode_batch(encode_batch(_batch()), other)


def test_every_cut_and_extension_is_refused() -> None:
    """A batch is whole or refused."""
    payload = encode_batch(_batch(3))
    for cut in range(len(payload)):
        with pytest.raises(MalformedMessageError):
            decode_batch(payload[:cut], SCHEMA)
    with pytest.raises(MalformedMessageError):
        decode_batch(payload + b"\0", SCHEMA)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"schema": None}, SchemaMismatchError),
        ({"schema": "x" * 3000}, SchemaMismatchError),
        ({"schema": "x" * 5000}, MalformedMessageError),
        ({"samples": -1}, MalformedMessageError),
        ({"samples": True}, MalformedMessageError),
        ({"samples": 40.0}, MalformedMessageError),
        ({"samples": None}, MalformedMessageError),
        ({"samples": 39}, ProtocolError),
        ({"samples": 41}, MalformedMessageError),
        ({"samples": MAX_SAMPLES + 1}, OversizeError),
        ({"samples": (1 << 64) - 1}, OversizeError),
        ({"columns": None}, MalformedMessageError),
        ({"columns": []}, MalformedMessageError),
        ({"columns": [1, 2, 3, 4, 5]}, MalformedMessageError),
        ({"columns": [[0, 1 << 40]] * 5}, MalformedMessageError),
        ({"columns": [[0, -5], [0, 5], [0, 0], [0, 0], [0, 0]]}, MalformedMessageError),
        ({"columns": [[0]] * 5}, MalformedMessageError),
        ({"columns": [["zstd", 1]] * 5}, MalformedMessageError),
    ],
)
def test_hostile_header_is_refused(header: dict[str, object], error: type[ProtocolError]) -> None:
    """No header field is believed."""
    with pytest.raises(error):
        decode_batch(_forge(**header), SCHEMA)


@pytest.mark.parametrize(
    "prefix", [b"", PLAIN_MAGIC, b"PK\x03\x04" + bytes(20), PLAIN_MAGIC + b"\xff" * 4, COMPACT_MAGIC + bytes(4)]
)
def test_what_is_no_batch_is_refused(prefix: bytes) -> None:
    """Another file, or a header longer than the payload."""
    with pytest.raises(MalformedMessageError):
        decode_batch(prefix, SCHEMA)


def test_caller_bounds_the_samples() -> None:
    """A reader that asked for 39 samples does not decode 40."""
    payload = encode_batch(_batch(40))
    assert len(decode_batch(payload, SCHEMA, max_samples=40)) == 40
    with pytest.raises(OversizeError, match="40 samples"):
        decode_batch(payload, SCHEMA, max_samples=39)


def test_wide_bomb_is_refused_without_allocating() -> None:
    """A small payload of a wide schema, within the bound on samples, cannot ask for gigabytes."""
    wide = FeatureSchema(
        tuple(Feature(f"f{i}", FeatureKind.DENSE, MAX_FEATURE_LENGTH) for i in range(MAX_FEATURES)),
    )
    bomb = _forge([np.zeros(MAX_SAMPLES, np.float32)], schema=wide.digest)
    tracemalloc.start()
    try:
        with pytest.raises(OversizeError):
            decode_batch(bomb, wide)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_oversize_batch_is_refused_by_its_sender() -> None:
    """What no reader would take is not sent."""
    schema = FeatureSchema((Feature("price", FeatureKind.DENSE),))
    with pytest.raises(OversizeError, match="100001 samples"):
        encode_batch(empty_batch(schema, MAX_SAMPLES + 1))


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        (0, -1, "item has ids from -1"),
        (0, 100, "100, its vocabulary 100"),
        (1, 20, "genres"),
        (2, np.nan, "price"),
        (2, np.inf, "price"),
        (3, np.nan, "label"),
        (3, -np.inf, "label"),
    ],
)
def test_values_that_would_harm_a_model_are_refused_by_both_sides(column: int, value: float, says: str) -> None:
    """An id outside its table, and a number that is not finite, are neither sent nor let in."""
    batch = _batch()
    columns = [array.copy() for _, array in batch.columns()]
    columns[column].flat[5] = value
    with pytest.raises(MalformedMessageError, match=says):
        decode_batch(_forge(columns), SCHEMA)
    features = dict(zip(batch.features, columns, strict=False))
    with pytest.raises(MalformedMessageError, match=says):
        encode_batch(SampleBatch(SCHEMA, features, columns[3], columns[4]))


@settings(PROPERTY, max_examples=250)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_mutation_decodes_or_is_refused(edits: list[tuple[int, int]]) -> None:
    """Nothing but a ProtocolError escapes, and what decodes is a batch that could be sent again."""
    payload = bytearray(encode_batch(_batch()))
    for position, byte in edits:
        payload[position % len(payload)] = byte
    try:
        batch = decode_batch(bytes(payload), SCHEMA)
    except ProtocolError:
        return
    _assert_equal(decode_batch(encode_batch(batch), SCHEMA), batch)
