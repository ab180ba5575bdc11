"""A batch of samples: what a device learns from, what the pool keeps, what travels between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import SchemaMismatchError
from protocol.schema import FeatureSchema

Array = NDArray[Any]
_TYPES = {name: np.dtype(name) for name in ("int32", "float32")}


@dataclass(frozen=True)
class SampleBatch:
    """n samples as columns.

    Attributes:
        schema: The features they have.
        features: One array a feature, of the dtype and shape that the schema gives: [n] or [n, length].
        label: float32 [n], 0 or 1.
        time_s: int64 [n], unix seconds of the event.

    Raises:
        SchemaMismatchError: If a column is missing, superfluous, or of another dtype or shape.
    """

    schema: FeatureSchema
    features: Mapping[str, Array]
    label: NDArray[np.float32]
    time_s: NDArray[np.int64] = field(repr=False)

    def __post_init__(self) -> None:
        n = len(self.label)
        if not self._fits(n):
            expected = {f.name: (f.dtype, f.shape(n)) for f in self.schema.features}
            got = {name: (array.dtype.name, array.shape) for name, array in self.features.items()}
            if got != expected:
                wrong = sorted({*got.items()} ^ {*expected.items()})
                raise SchemaMismatchError(f"samples do not fit schema {self.schema.digest}: {wrong}")
        if self.label.dtype != np.float32 or self.label.shape != (n,):
            raise SchemaMismatchError(f"labels are float32 [n], got {self.label.dtype} {self.label.shape}")
        if self.time_s.dtype != np.int64 or self.time_s.shape != (n,):
            raise SchemaMismatchError(f"times are int64 [{n}], got {self.time_s.dtype} {self.time_s.shape}")

    def __len__(self) -> int:
        return len(self.label)

    def _fits(self, samples: int) -> bool:
        """Whether the features are as they should be in native byte order; it is said so often that time counts."""
        features, columns = self.schema.features, self.features
        return len(columns) == len(features) and all(
            (column := columns.get(feature.name)) is not None
            and column.dtype == _TYPES[feature.dtype]
            and column.shape == feature.shape(samples)
            for feature in features
        )

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> SampleBatch:
        """The chosen rows, in the order asked for: an index array, a boolean mask or a slice."""
        columns = {name: _chosen(array, rows) for name, array in self.features.items()}
        return SampleBatch(self.schema, columns, _chosen(self.label, rows), _chosen(self.time_s, rows))

    def columns(self) -> Iterator[tuple[str, Array]]:
        """Every column by name: the features in the schema's order, then ``label`` and ``time_s``."""
        for feature in self.schema.features:
            yield feature.name, self.features[feature.name]
        yield "label", self.label
        yield "time_s", self.time_s


def _chosen(array: Array, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> Array:
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "i":
        return array.take(rows, axis=0)  # in a third of the time that an index takes
    found: Array = array[rows]
    return found


def empty_batch(schema: FeatureSchema, samples: int = 0) -> SampleBatch:
    """A batch of zeros."""
    columns = {f.name: np.zeros(f.shape(samples), f.dtype) for f in schema.features}
    return SampleBatch(schema, columns, np.zeros(samples, np.float32), np.zeros(samples, np.int64))


def concatenate(batches: Sequence[SampleBatch]) -> SampleBatch:
    """The samples of all batches, in order.

    Raises:
        ValueError: If there is no batch.
        SchemaMismatchError: If their schemas differ.
    """
    if not batches:
        raise ValueError("concatenate needs at least one batch; use empty_batch for none")
    schema = batches[0].schema
    if any(batch.schema != schema for batch in batches):
        raise SchemaMismatchError(f"cannot join samples of schemas {sorted({b.schema.digest for b in batches})}")
    columns = {f.name: np.concatenate([b.features[f.name] for b in batches]) for f in schema.features}
    label = np.concatenate([b.label for b in batches])
    return SampleBatch(schema, columns, label, np.concatenate([b.time_s for b in batches]))
