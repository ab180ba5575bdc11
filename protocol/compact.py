"""Layout 2 of a batch: what samples share is sent once.

Sequence features become windows over shared sequences (`protocol.windows`); ids of one table share one list of the ids
that occur (`protocol.id_streams`); a categorical id that continues a row's sequence, as the item of a sample does that
later histories hold, is a reference to it; a feature that follows from a categorical one, as genres do from the item,
is sent once for each id; times are differences. Every array is bounded by the schema and the number of samples before
it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import MalformedMessageError
from protocol.id_streams import read_ids, write_ids
from protocol.places import read_places, write_places
from protocol.samples import Array, SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema
from protocol.streams import StreamReader, StreamWriter
from protocol.windows import EMPTY, Index, Shared, Windows, find_shared, lay_out, sequence_lengths


def write_samples(batch: SampleBatch, writer: StreamWriter, *, keep_order: bool) -> None:
    """Write all columns of a batch; in another order if that is smaller and ``keep_order`` does not forbid it."""
    by_time = np.argsort(batch.time_s, kind="stable").astype(np.int64)
    sequences = [f.name for f in batch.schema.features if f.kind is FeatureKind.SEQUENCE]
    shared = {name: find_shared(batch.features[name], by_time) for name in sequences}
    if not keep_order and sequences:
        order = _grouped(batch, shared)
        batch, shared = batch.take(order), {name: found.take(order) for name, found in shared.items()}
    windows = {name: lay_out(batch.features[name], found) for name, found in shared.items()}
    for name in sequences:
        write_places(writer, windows[name], batch.schema[name].length)
    for table in batch.schema.tables:
        _write_table(writer, batch, windows, table)
    for feature in _others(batch.schema):
        _write_other(writer, batch, feature)
    _write_label(writer, batch.label)
    writer.signed(np.diff(batch.time_s, prepend=np.int64(0)))


def read_samples(reader: StreamReader, schema: FeatureSchema, samples: int) -> SampleBatch:
    """Read what `write_samples` wrote.

    Raises:
        MalformedMessageError: If the streams do not hold ``samples`` samples of that schema.
    """
    features: dict[str, Array] = {}
    places = {f.name: read_places(reader, samples, f.length) for f in schema.features if f.kind is FeatureKind.SEQUENCE}
    for table in schema.tables:
        features |= _read_table(reader, schema, table, samples, places)
    for feature in _others(schema):
        features[feature.name] = _read_other(reader, schema, feature, features, samples)
    label = _read_label(reader, samples)
    time_s = np.cumsum(reader.signed(samples), dtype=np.int64)
    return SampleBatch(schema, features, label, time_s)


def _grouped(batch: SampleBatch, shared: Mapping[str, Shared]) -> Index:
    """The rows with those of one sequence together, in time, and the sequences by their first time."""
    group = next((found.sequence for found in shared.values() if (found.sequence != EMPTY).any()), None)
    if group is None:
        return np.argsort(batch.time_s, kind="stable").astype(np.int64)
    first = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, group[group != EMPTY], batch.time_s[group != EMPTY])
    begin = np.where(group == EMPTY, batch.time_s, first[group])
    order: Index = np.lexsort((batch.time_s, group, begin)).astype(np.int64)
    return order


def _write_table(writer: StreamWriter, batch: SampleBatch, windows: Mapping[str, Windows], table: str) -> None:
    """Every feature that looks up one table, but sets."""
    mine = [f for f in batch.schema.features if f.table == table]
    parts = [windows[f.name].tape for f in mine if f.kind is FeatureKind.SEQUENCE]
    following = [windows[f.name].following() for f in mine if f.kind is FeatureKind.SEQUENCE]
    for feature in mine:
        if feature.kind is FeatureKind.CATEGORICAL:
            ids = batch.features[feature.name]
            source = _source(ids, following)
            if following:
                writer.numbers(source)
            parts.append(ids[source == 0])
    if parts:
        write_ids(writer, parts)


def _source(ids: NDArray[np.int32], following: list[NDArray[np.int32]]) -> Index:
    """[n]: 1 + the first sequence whose next id the row's id is, else 0."""
    source = np.zeros(len(ids), np.int64)
    for number, expected in reversed(list(enumerate(following, start=1))):
        source[(ids == expected) & (expected > 0)] = number
    return source


def _read_table(
    reader: StreamReader,
    schema: FeatureSchema,
    table: str,
    samples: int,
    places: Mapping[str, tuple[Index, Index]],
) -> dict[str, Array]:
    mine = [f for f in schema.features if f.table == table and f.kind is not FeatureKind.MULTIVALUED]
    sequences = [f for f in mine if f.kind is FeatureKind.SEQUENCE]
    single = [f for f in mine if f.kind is FeatureKind.CATEGORICAL]
    sources = {f.name: _read_source(reader, samples, len(sequences)) for f in single}
    counts = [int(sequence_lengths(*places[f.name]).sum()) for f in sequences]
    counts += [int((sources[f.name] == 0).sum()) for f in single]
    if not mine:
        return {}
    parts = iter(read_ids(reader, counts, schema.tables[table]))
    windows = {f.name: Windows(next(parts), *places[f.name]) for f in sequences}
    features: dict[str, Array] = {name: found.rows(schema[name].length) for name, found in windows.items()}
    for feature in single:
        source, ids = sources[feature.name], np.zeros(samples, np.int32)
        ids[source == 0] = next(parts)
        for number, found in enumerate(windows.values(), start=1):
            ids[source == number] = found.following()[source == number]
        features[feature.name] = ids
    return features


def _read_source(reader: StreamReader, samples: int, sequences: int) -> Index:
    if not sequences:
        return np.zeros(samples, np.int64)
    source = reader.numbers(samples)
    if int(source.max(initial=0)) > sequences:
        raise MalformedMessageError("batch: an id that continues a sequence which does not exist")
    return source.astype(np.int64)


def _others(schema: FeatureSchema) -> list[Feature]:
    return [f for f in schema.features if f.kind in (FeatureKind.MULTIVALUED, FeatureKind.DENSE)]


def _determinants(schema: FeatureSchema) -> list[str]:
    """Features that others may follow from; fixed by the schema, so that both sides number them alike."""
    return [f.name for f in schema.features if f.kind is FeatureKind.CATEGORICAL]


def _write_other(writer: StreamWriter, batch: SampleBatch, feature: Feature) -> None:
    """A feature once for each id that it follows from, where there is one such, else for each row."""
    values = batch.features[feature.name]
    names = _determinants(batch.schema)
    chosen, kept = 0, np.arange(len(batch))
    for number, name in enumerate(names, start=1):
        _, first, group = np.unique(batch.features[name], return_index=True, return_inverse=True)
        if len(first) < len(kept) and np.array_equal(_bits(values), _bits(values)[first[group.reshape(-1)]]):
            chosen, kept = number, first
    writer.numbers(np.array([chosen]))
    rows = values[kept]
    if feature.kind is FeatureKind.DENSE:
        writer.column(rows)
        return
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    writer.numbers(np.array([len(distinct)]))
    writer.numbers(distinct.T.reshape(-1))
    writer.numbers(which.reshape(-1))


def _bits(values: Array) -> Array:
    """Floats by their bits: 0.0 and -0.0 are not the same to send."""
    return values.view(np.int32)


def _read_other(
    reader: StreamReader, schema: FeatureSchema, feature: Feature, features: Mapping[str, Array], samples: int
) -> Array:
    group, kept = _groups(reader, features, _determinants(schema), samples)
    if feature.kind is FeatureKind.DENSE:
        rows: Array = reader.column(feature.dtype, feature.shape(kept))
        return rows[group]
    distinct = int(reader.numbers(1)[0])
    if distinct > kept or (kept and not distinct):
        raise MalformedMessageError(f"batch: {feature.name} has {distinct} different rows among {kept}")
    values, which = reader.numbers(distinct * feature.length), reader.numbers(kept)
    if int(values.max(initial=0)) >= (feature.vocabulary or 0) or int(which.max(initial=0)) >= max(distinct, 1):
        raise MalformedMessageError(f"batch: {feature.name} has ids outside its vocabulary or rows that are not there")
    rows = values.astype(np.int32).reshape(feature.length, distinct).T
    return rows[which.astype(np.int64)][group]


def _groups(reader: StreamReader, features: Mapping[str, Array], names: list[str], samples: int) -> tuple[Index, int]:
    """Which of the rows sent each sample has, and how many rows are sent."""
    chosen = int(reader.numbers(1)[0])
    if chosen == 0:
        return np.arange(samples), samples
    if chosen > len(names):
        raise MalformedMessageError("batch: a feature follows from one that does not exist")
    ids, group = np.unique(features[names[chosen - 1]], return_inverse=True)
    return group.reshape(-1), len(ids)


def _write_label(writer: StreamWriter, label: NDArray[np.float32]) -> None:
    binary = bool(((label.view(np.int32) == 0) | (label == 1)).all())
    writer.numbers(np.array([int(binary)]))
    writer.column(np.packbits(label == 1) if binary else label)


def _read_label(reader: StreamReader, samples: int) -> NDArray[np.float32]:
    binary = int(reader.numbers(1)[0])
    if not binary:
        label: NDArray[Any] = reader.column(np.float32, (samples,))
        return label
    return np.unpackbits(reader.column(np.uint8, (-(-samples // 8),)), count=samples).astype(np.float32)
