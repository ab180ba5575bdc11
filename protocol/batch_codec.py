"""A batch of samples to bytes and back.

``magic | header length, u32 little-endian | header, msgpack | body``. Two layouts, told apart by their magic:

1. *Plain*: ``{"schema": digest, "samples": n, "columns": [[codec, bytes], ...]}``, the columns end to end in
   `SampleBatch.columns`' order: the features in the schema's, then label and time.
2. *Compact*: ``{"schema": digest, "samples": n, "streams": [codec, bytes, ...], "crc32": of the body}``, as
   `protocol.compact` writes them: histories as windows over shared sequences, and what else samples share once.

Names, dtypes and shapes follow from the schema, which both sides hold, so they are not sent, and a header can ask for
no more memory than the schema's own row times n. A reader takes either layout; a writer takes the smaller one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.columns import decode_column, encode_column
from protocol.compact import read_samples, write_samples
from protocol.errors import MalformedMessageError, OversizeError, SchemaMismatchError
from protocol.packing import pack, unpack
from protocol.samples import SampleBatch
from protocol.schema import FeatureKind, FeatureSchema
from protocol.streams import StreamReader, StreamWriter
from protocol.topics import MAX_BLOB_BYTES

PLAIN_MAGIC = b"CSB1"  # CoDA sample batch, layout 1
COMPACT_MAGIC = b"CSB2"
MAX_SAMPLES = 100_000
MAX_COMPACT_BYTES = 16 << 20  # of columns: reading the compact layout takes several times as much for a moment
_FEW_SAMPLES = 64  # below, the compact layout's lists may cost more than they save
_PREFIX = struct.Struct("<4sI")
_MAX_HEADER_BYTES = 4096

_Layout = list[tuple[str, str, tuple[int, ...]]]


def encode_batch(batch: SampleBatch, *, zstd: bool = True, keep_order: bool = True) -> bytes:
    """The batch's bytes.

    Args:
        batch: The samples.
        zstd: Whether their reader has zstd; see `Query.zstd`.
        keep_order: Whether they have to come out in the same order; any order may be smaller.

    Raises:
        OversizeError: If it has more than `MAX_SAMPLES` samples, or decoded takes more than `MAX_BLOB_BYTES`.
        MalformedMessageError: If an id is outside its vocabulary, or a label or dense value is not finite.
    """
    _check_size(batch.schema, len(batch), MAX_SAMPLES)
    _check_values(batch)
    if len(batch) * _row_bytes(batch.schema) > MAX_COMPACT_BYTES:
        return encode_plain(batch, zstd=zstd)
    compact = _encode_compact(batch, zstd=zstd, keep_order=keep_order)
    return compact if len(batch) > _FEW_SAMPLES else min(compact, encode_plain(batch, zstd=zstd), key=len)


def decode_batch(payload: bytes | memoryview, schema: FeatureSchema, *, max_samples: int = MAX_SAMPLES) -> SampleBatch:
    """Read a batch of samples that have the features of ``schema``.

    Raises:
        SchemaMismatchError: If they have other features.
        OversizeError: If there are more than ``max_samples``, or decoded they take more than their layout allows;
            nothing is decoded then.
        MalformedMessageError: If the payload is anything else than a whole batch, an id is outside its vocabulary, or
            a label or dense value is not finite.
        UnsupportedCodecError: If it needs zstd and that is not installed here.
    """
    magic, header, body = _split(memoryview(payload))
    if header.get("schema") != schema.digest:
        theirs = str(header.get("schema"))[:40]
        raise SchemaMismatchError(f"samples of schema {theirs!r}, this side has {schema.digest!r}")
    samples = header.get("samples")
    if type(samples) is not int or samples < 0:
        raise MalformedMessageError(f"batch: {str(samples)[:40]!r} is not a number of samples")
    _check_size(schema, samples, max_samples)
    if magic == PLAIN_MAGIC:
        batch = _decode_columns(header.get("columns"), body, schema, samples)
    else:
        batch = _decode_streams(header, body, schema, samples)
    _check_values(batch)
    return batch


def encode_plain(batch: SampleBatch, *, zstd: bool = True, quick: bool = False) -> bytes:
    """The batch in layout 1, unchecked; ``quick``: in less time and a few more bytes."""
    columns = [encode_column(array, zstd=zstd, quick=quick) for _, array in batch.columns()]
    sizes = [[int(codec), len(data)] for codec, data in columns]
    header = pack({"schema": batch.schema.digest, "samples": len(batch), "columns": sizes})
    return b"".join([_PREFIX.pack(PLAIN_MAGIC, len(header)), header, *(data for _, data in columns)])


def _encode_compact(batch: SampleBatch, *, zstd: bool, keep_order: bool) -> bytes:
    writer = StreamWriter(zstd=zstd)
    write_samples(batch, writer, keep_order=keep_order)
    body = writer.body()
    fields = {"schema": batch.schema.digest, "samples": len(batch), "streams": writer.sizes, "crc32": zlib.crc32(body)}
    header = pack(fields)
    return b"".join([_PREFIX.pack(COMPACT_MAGIC, len(header)), header, body])


def _split(payload: memoryview) -> tuple[bytes, dict[str, Any], memoryview]:
    if len(payload) < _PREFIX.size:
        raise MalformedMessageError(f"batch: {len(payload)} bytes are too few")
    magic, header_bytes = _PREFIX.unpack_from(payload)
    if magic not in (PLAIN_MAGIC, COMPACT_MAGIC):
        raise MalformedMessageError(f"batch: begins with {magic!r}, not {PLAIN_MAGIC!r} or {COMPACT_MAGIC!r}")
    body_at = _PREFIX.size + header_bytes
    if header_bytes > _MAX_HEADER_BYTES or body_at > len(payload):
        raise MalformedMessageError(f"batch: a header of {header_bytes} bytes does not fit")
    return magic, unpack(payload[_PREFIX.size : body_at], "batch header"), payload[body_at:]


def _decode_streams(header: Mapping[str, Any], body: memoryview, schema: FeatureSchema, samples: int) -> SampleBatch:
    columns_bytes = samples * _row_bytes(schema)
    if columns_bytes > MAX_COMPACT_BYTES:
        raise OversizeError(f"compact batch of {samples} samples", columns_bytes, MAX_COMPACT_BYTES)
    if header.get("crc32") != zlib.crc32(body):  # most of the body is packed bits: damage there would pass for values
        raise MalformedMessageError("batch: its bytes are not those that were written")
    reader = StreamReader(header.get("streams"), body)
    batch = read_samples(reader, schema, samples)
    reader.end()
    return batch


def _decode_columns(sizes: object, body: memoryview, schema: FeatureSchema, samples: int) -> SampleBatch:
    layout = _layout(schema, samples)
    pairs = _check_sizes(sizes, len(layout), len(body))
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for (name, dtype, shape), (codec, size) in zip(layout, pairs, strict=True):
        arrays[name] = decode_column(codec, body[at : at + size], dtype, shape)
        at += size
    label, time_s = arrays.pop("label"), arrays.pop("time_s")
    return SampleBatch(schema, arrays, label, time_s)


def _check_sizes(sizes: object, columns: int, body_bytes: int) -> list[tuple[int, int]]:
    pairs = [tuple(pair) for pair in sizes if isinstance(pair, list)] if isinstance(sizes, list) else []
    whole = all(len(pair) == 2 and all(type(number) is int and number >= 0 for number in pair) for pair in pairs)
    if not whole or len(pairs) != columns or sum(size for _, size in pairs) != body_bytes:
        raise MalformedMessageError(f"batch: its header does not describe {columns} columns in {body_bytes} bytes")
    return pairs


def _layout(schema: FeatureSchema, samples: int) -> _Layout:
    """Name, dtype and shape of every column, in `SampleBatch.columns`' order."""
    features: _Layout = [(f.name, f.dtype, f.shape(samples)) for f in schema.features]
    return [*features, ("label", "float32", (samples,)), ("time_s", "int64", (samples,))]


def _check_size(schema: FeatureSchema, samples: int, max_samples: int) -> None:
    row_bytes = _row_bytes(schema)
    limit_bytes = min(max_samples * row_bytes, MAX_BLOB_BYTES)
    if samples * row_bytes > limit_bytes:
        raise OversizeError(f"batch of {samples} samples", samples * row_bytes, limit_bytes)


def _row_bytes(schema: FeatureSchema) -> int:
    return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for _, dtype, shape in _layout(schema, 1))


def _check_values(batch: SampleBatch) -> None:
    for feature in batch.schema.features:
        values = batch.features[feature.name]
        if feature.kind is FeatureKind.DENSE:
            _check_finite(values, feature.name)
        elif len(values) and not 0 <= int(values.min()) <= int(values.max()) < (feature.vocabulary or 0):
            got = f"{values.min()} to {values.max()}"
            raise MalformedMessageError(
                f"batch: {feature.name} has ids from {got}, its vocabulary {feature.vocabulary}"
            )
    _check_finite(batch.label, "label")


def _check_finite(values: NDArray[Any], name: str) -> None:
    if not np.isfinite(values).all():
        raise MalformedMessageError(f"batch: {name} holds a value that is not finite")
