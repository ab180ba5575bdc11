"""The pool's samples in memory: columns that grow, and keys by which equal samples are known."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureSchema

Array = NDArray[Any]
_FIRST_CAPACITY = 1024
FORGOTTEN = -1  # in place of the contributor of a row whose content was erased


class PoolColumns:
    """Columns of n samples.

    Rows are only ever added at the end, so what a reader was given stays as it was; but for rows that are forgotten.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self._arrays: dict[str, Array] = dict(empty_batch(schema, _FIRST_CAPACITY).columns())
        self._arrays["contributor"] = np.zeros(_FIRST_CAPACITY, np.int32)
        self._arrays["content_key"] = np.zeros(_FIRST_CAPACITY, np.int64)
        self._samples = 0

    def __len__(self) -> int:
        return self._samples

    def append(self, batch: SampleBatch, contributor: int, content_keys: NDArray[np.int64]) -> None:
        """Add samples of one contributor."""
        begin, end = self._samples, self._samples + len(batch)
        self._reserve(end)
        for name, column in batch.columns():
            self._arrays[name][begin:end] = column
        self._arrays["contributor"][begin:end] = contributor
        self._arrays["content_key"][begin:end] = content_keys
        # Last, so that a reader in another thread never sees a row before its values.
        self._samples = end

    def forget(self, contributor: int) -> int:
        """Erase the rows of a contributor in place; they become those of `FORGOTTEN`. Returns how many."""
        rows = np.flatnonzero(self.column("contributor") == contributor)
        self._arrays["contributor"][rows] = FORGOTTEN  # first, so that a reader passes over what is half erased
        for name, array in self._arrays.items():
            if name != "contributor":
                array[rows] = 0
        return len(rows)

    def column(self, name: str) -> Array:
        """A feature's values, ``label``, ``time_s``, ``contributor`` or ``content_key``, [n] or [n, length]."""
        samples = self._samples
        return self._arrays[name][:samples]

    def batch(self) -> SampleBatch:
        """All samples, without a copy."""
        samples = self._samples
        features = {f.name: self._arrays[f.name][:samples] for f in self.schema.features}
        return SampleBatch(self.schema, features, self._arrays["label"][:samples], self._arrays["time_s"][:samples])

    def _reserve(self, samples: int) -> None:
        capacity = len(self._arrays["label"])
        if samples <= capacity:
            return
        while capacity < samples:
            capacity *= 2
        self._arrays = {name: _grown(array, capacity) for name, array in self._arrays.items()}


def content_keys(batch: SampleBatch) -> NDArray[np.int64]:
    """A 64-bit key for each sample's features and label: equal samples have equal keys, whoever and whenever.

    The hash is a cryptographic one, so that nobody makes a sample that passes for another.
    """
    columns = [array for name, array in batch.columns() if name != "time_s"]
    rows = np.concatenate([_row_bytes(column) for column in columns], axis=1)
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(rows))
    return np.frombuffer(digests, "<i8").astype(np.int64)


def _row_bytes(column: Array) -> NDArray[np.uint8]:
    width = int(np.prod(column.shape[1:]))
    little_endian = np.ascontiguousarray(column.reshape(len(column), width), column.dtype.newbyteorder("<"))
    return little_endian.view(np.uint8)


def _grown(array: Array, capacity: int) -> Array:
    grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
