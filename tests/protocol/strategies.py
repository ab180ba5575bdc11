"""What the property tests draw: schemas, batches and one strategy for every message."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.chunks import blob_ref
from protocol.messages import (
    MAX_RETRY_AFTER_S,
    Accepted,
    BlobRef,
    Busy,
    Chunk,
    Collect,
    Contribution,
    Forget,
    Hello,
    Locate,
    Located,
    Log,
    LogRequest,
    Match,
    Message,
    Offer,
    Patch,
    Piece,
    Presence,
    Pull,
    Query,
    Refusal,
    RefusalCode,
    Release,
    Report,
    Rows,
    RowsRequest,
    Task,
    Updated,
)
from protocol.opinions import pack_opinions
from protocol.rows import MAX_SHARDS, MAX_SLOTS, RowColumn, TableRows
from protocol.samples import SampleBatch
from protocol.schema import RESERVED_NAMES, Feature, FeatureKind, FeatureSchema
from protocol.topics import CHUNK_BYTES, CHUNK_SIZES, MAX_BLOB_BYTES, MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES

PROPERTY = settings(deadline=None, derandomize=True)

_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in RESERVED_NAMES)


@st.composite
def schemas(draw: st.DrawFn) -> FeatureSchema:
    """One to four features of any kind; features of one table share its vocabulary."""
    tables = {"a": draw(st.sampled_from([2, 255, 256, 70_000])), "b": draw(st.integers(2, 1 << 31))}
    features = []
    for name in draw(st.lists(_names, min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(FeatureKind))
        length = 1 if kind is FeatureKind.CATEGORICAL else draw(st.integers(1, 5))
        if kind is FeatureKind.DENSE:
            features.append(Feature(name, kind, length))
        else:
            table = draw(st.sampled_from(sorted(tables)))
            features.append(Feature(name, kind, length, tables[table], table))
    return FeatureSchema(tuple(features))


@st.composite
def batches(draw: st.DrawFn, max_samples: int = 12) -> SampleBatch:
    """Samples of a drawn schema, none to ``max_samples`` of them."""
    schema = draw(schemas())
    n = draw(st.integers(0, max_samples))
    columns = {feature.name: draw(_column(feature, n)) for feature in schema.features}
    label = draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0])))
    return SampleBatch(schema, columns, label, draw(hnp.arrays(np.int64, n)))


def _column(feature: Feature, samples: int) -> st.SearchStrategy[NDArray[Any]]:
    if feature.vocabulary is None:
        finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
        return hnp.arrays(np.float32, feature.shape(samples), elements=finite)
    return hnp.arrays(np.int32, feature.shape(samples), elements=st.integers(0, feature.vocabulary - 1))


sha256s = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
blob_refs = st.builds(BlobRef, sha256s, st.integers(1, MAX_BLOB_BYTES))
plain_values = st.recursive(
    st.none() | st.booleans() | _INT64 | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_columns = st.dictionaries(st.text(max_size=8), st.integers(1, 64), min_size=1, max_size=4).map(
    lambda widths: tuple(RowColumn(weight, width) for weight, width in widths.items())
)
table_rows = st.builds(
    TableRows, sha256s, st.sampled_from(["item", "ad"]), st.integers(2, 1 << 31), st.integers(2, MAX_SLOTS), _columns
)
plain_maps = st.dictionaries(st.text(max_size=5), plain_values, max_size=4)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """A profile of one to four centroids."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 8)))
    centroids = draw(hnp.arrays("<f2", shape, elements=st.floats(-1, 1, width=16)))
    return Query(
        query_id=draw(st.text(max_size=8)),
        task_version=draw(_INT64),
        model_sha256=draw(sha256s),
        dimensions=shape[1],
        centroids=centroids.tobytes(),
        weights=(1 / shape[0],) * shape[0],
        max_samples=draw(st.integers(1, 5000)),
        max_bytes=draw(st.integers(1, 1 << 20)),
        inline_bytes=draw(st.none() | st.integers(0, MAX_CHUNK_BYTES)),
        opinions=draw(st.none() | st.sets(st.integers(1, 1 << 30), max_size=20).map(_packed_opinions)),
        zstd=draw(st.booleans()),
    )


def _packed_opinions(items: set[int]) -> bytes:
    ascending = np.array(sorted(items), np.int32)
    return pack_opinions(ascending, (ascending % 2).astype(np.float32))


_indices = st.lists(st.integers(0, MAX_BLOB_BYTES // CHUNK_BYTES - 1), min_size=1, max_size=64).map(tuple)
MESSAGE_STRATEGIES: dict[type[Message], st.SearchStrategy[Message]] = {
    Presence: st.builds(Presence, st.booleans()),
    Hello: st.builds(
        Hello, st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.lists(sha256s, max_size=3).map(tuple)
    ),
    Query: queries(),
    Pull: st.builds(Pull, sha256s, _indices),
    Collect: st.builds(Collect, sha256s, _indices, st.sampled_from(CHUNK_SIZES[:3])),
    Piece: st.builds(Piece, sha256s, _INT64, _INT64, st.binary(max_size=64), st.sampled_from(CHUNK_SIZES)),
    Offer: st.builds(
        Offer,
        st.text(max_size=8),
        st.builds(BlobRef, sha256s, st.integers(1, MAX_MESSAGE_BYTES)),
        st.sampled_from(CHUNK_SIZES),
    ),
    Forget: st.just(Forget()),
    Log: st.builds(Log, st.text(max_size=8), st.binary(max_size=64)),
    LogRequest: st.builds(LogRequest, st.text(max_size=8), _INT64),
    Locate: st.builds(Locate, sha256s, st.lists(sha256s, max_size=8).map(tuple), st.booleans()),
    Located: st.builds(
        Located, sha256s, st.booleans(), st.none() | st.builds(Patch, sha256s, blob_refs, st.booleans())
    ),
    Contribution: st.builds(Contribution, st.binary(max_size=64), st.none() | st.booleans()),
    Report: st.builds(Report, st.text(max_size=8), _INT64, plain_maps),
    RowsRequest: st.builds(
        RowsRequest,
        st.text(max_size=8),
        sha256s,
        st.sets(st.integers(0, 1 << 27), min_size=1, max_size=MAX_SHARDS).map(lambda shards: tuple(sorted(shards))),
        st.booleans(),
    ),
    Task: st.builds(
        Task,
        _INT64,
        plain_maps,
        plain_maps,
        blob_refs,
        blob_refs,
        st.none() | table_rows,
        st.none() | st.fixed_dictionaries({}, optional={"on_battery": st.booleans(), "least_battery": st.floats(0, 1)}),
    ),
    Release: st.builds(Release, _INT64, st.text(min_size=1, max_size=8), blob_refs)
    | st.builds(Release, _INT64, st.none(), st.none()),
    Updated: st.builds(Updated, _INT64, *[st.text(max_size=8)] * 4),
    Rows: st.builds(Rows, st.text(max_size=8), blob_refs),
    Match: st.builds(Match, st.text(max_size=8), st.integers(1, 5000), blob_refs, st.none() | blob_refs)
    | st.builds(Match, st.text(max_size=8), st.just(0), st.none())
    | st.binary(min_size=1, max_size=64).map(lambda data: Match("q", 1, blob_ref(data), None, data)),
    Chunk: st.builds(Chunk, sha256s, _INT64, _INT64, st.binary(max_size=64), st.sampled_from(CHUNK_SIZES)),
    Accepted: st.builds(Accepted, st.text(max_size=8)),
    Busy: st.builds(Busy, st.text(max_size=8), st.floats(0, MAX_RETRY_AFTER_S, exclude_min=True)),
    Refusal: st.builds(
        Refusal, st.text(max_size=8), st.sampled_from([code.value for code in RefusalCode]), st.text(max_size=8)
    ),
}
messages = st.one_of(*MESSAGE_STRATEGIES.values())
