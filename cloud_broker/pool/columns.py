"""The pool's samples as columns that all workers of a machine share, and keys by which equal samples are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.pool.shared_columns import SharedColumns
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureSchema

Array = NDArray[Any]
OWN_COLUMNS = ("contributor", "content_key", "opens_item")  # beside the samples' own
FORGOTTEN = -1  # in place of the contributor of a row whose content was erased
_TIME_FACTOR = np.int64(-7046029254386353131)  # odd and large: equal sums mean equal parts, but for accidents
_FLUSH_ROWS = 500_000  # after so many, rows are brought to disk: more would be read from segments after a power cut


class PoolColumns:
    """Columns of n samples.

    Rows are only ever added at the end, so what a reader was given stays as it was; but for rows that are forgotten.

    Attributes:
        sharers: int32 [items], how many contributors have samples of each item; shared, too.
    """

    def __init__(self, schema: FeatureSchema, directory: Path) -> None:
        """Open the columns under ``directory``, or create them; to be called with the pool's lock held."""
        self.schema = schema
        columns = {name: (array.dtype.str, array.shape[1:]) for name, array in empty_batch(schema).columns()}
        own = dict(zip(OWN_COLUMNS, (("<i4", ()), ("<i8", ()), ("|u1", ())), strict=True))
        self._columns = SharedColumns(directory, {**columns, **own})
        self._item = schema.item.name if schema.item else None
        self._sharers = SharedColumns(directory / "sharers", {"contributors": ("<i4", ())})
        vocabulary = schema[self._item].vocabulary if self._item else None
        if len(self._sharers) == 0:
            self._sharers.append(0, {"contributors": np.zeros(vocabulary or 1, np.int32)})
        self.sharers: NDArray[np.int32] = self._sharers.column("contributors")

    def __len__(self) -> int:
        return len(self._columns)

    def append(
        self,
        begin: int,
        batch: SampleBatch,
        contributor: int,
        content_keys: NDArray[np.int64],
        earlier: NDArray[np.int64],
    ) -> None:
        """Write samples of one contributor, whose earlier rows are given, from row ``begin`` on.

        Rows that are left out are nobody's.
        """
        if len(self) < begin:
            self._columns.append(len(self), {"contributor": np.full(begin - len(self), FORGOTTEN, np.int32)})
        items = self.items_of(batch)
        opens = _opening(items, self.items(earlier))
        own = {"contributor": contributor, "content_key": content_keys, "opens_item": opens}
        self._columns.append(begin, {**dict(batch.columns()), **own})
        np.add.at(self.sharers, items[opens], 1)
        if len(self) - self._columns.durable > _FLUSH_ROWS:
            self.flush()

    def forget(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Erase rows in place, given as (first row, number of rows); they become those of `FORGOTTEN`.

        On disk when this returns.
        """
        ends = [(first, min(first + rows, len(self))) for first, rows in ranges if first < len(self)]
        for begin, end in ends:
            # First, so that a reader passes over what is half erased.
            self.column("contributor")[begin:end] = FORGOTTEN
            items, opens = self.items(slice(begin, end)), self.column("opens_item")[begin:end] != 0
            np.subtract.at(self.sharers, items[opens], 1)
            self._columns.erase(begin, end, but="contributor")
        if ends:
            self._columns.flush_rows(min(begin for begin, _ in ends), max(end for _, end in ends))

    def column(self, name: str) -> Array:
        """A feature's values, ``label``, ``time_s``, ``contributor`` or ``content_key``, [n] or [n, length]."""
        return self._columns.column(name)

    def batch(self) -> SampleBatch:
        """All samples, without a copy."""
        samples = len(self)
        features = {f.name: self.column(f.name)[:samples] for f in self.schema.features}
        return SampleBatch(self.schema, features, self.column("label")[:samples], self.column("time_s")[:samples])

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> SampleBatch:
        """The samples of ``rows``."""
        return self.batch().take(rows)

    def items_of(self, batch: SampleBatch) -> NDArray[np.int32]:
        """Each sample's item, [n]; 0 where the schema has none."""
        return batch.features[self._item] if self._item else np.zeros(len(batch), np.int32)

    def items(self, rows: NDArray[np.integer[Any]] | slice) -> NDArray[np.int32]:
        """The items of rows."""
        if self._item:
            found: NDArray[np.int32] = self.column(self._item)[rows]
            return found
        return np.zeros(len(self.column("label")[rows]), np.int32)

    def flush(self) -> None:
        """Bring all rows to disk."""
        self._columns.flush()

    def count_sharers(self) -> None:
        """Count who shares items anew: a process that was killed may have left the count behind."""
        opens = self.column("opens_item") != 0
        self.sharers[:] = np.bincount(self.items(slice(None))[opens], minlength=len(self.sharers))

    def open_items_again(self, ranges: list[tuple[int, int]]) -> None:
        """Mark anew which of a contributor's rows are its first of an item, after some of its rows were forgotten."""
        rows = rows_of(ranges)
        flags, items = self.column("opens_item"), self.items(rows)
        np.subtract.at(self.sharers, items[flags[rows] != 0], 1)
        flags[rows] = 0
        first = np.unique(items, return_index=True)[1]
        flags[rows[first]] = 1
        np.add.at(self.sharers, items[first], 1)


def rows_of(ranges: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """The rows of (first row, number of rows)."""
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, first + rows) for first, rows in ranges)])


def content_keys(batch: SampleBatch) -> NDArray[np.int64]:
    """A 64-bit key for each sample's features and label: equal samples have equal keys, whoever and whenever.

    The hash is a cryptographic one, so that nobody makes a sample that passes for another.
    """
    columns = [array for name, array in batch.columns() if name != "time_s"]
    rows = np.concatenate([_row_bytes(column) for column in columns], axis=1)
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(rows))
    return np.frombuffer(digests, "<i8").astype(np.int64)


def identities(keys: NDArray[np.int64], time_s: NDArray[np.int64]) -> NDArray[np.int64]:
    """By which a contributor's samples are told apart: content and time, mixed."""
    with np.errstate(over="ignore"):
        return keys + time_s * _TIME_FACTOR


def _opening(items: NDArray[np.int32], earlier: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which samples are their contributor's first of an item, [n]."""
    opens = np.zeros(len(items), np.bool_)
    opens[np.unique(items, return_index=True)[1]] = True
    return opens & ~np.isin(items, earlier)


def _row_bytes(column: Array) -> NDArray[np.uint8]:
    width = int(np.prod(column.shape[1:]))
    little_endian = np.ascontiguousarray(column.reshape(len(column), width), column.dtype.newbyteorder("<"))
    return little_endian.view(np.uint8)
