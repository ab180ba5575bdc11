"""Rows by what was seen: for queries that say nothing of who saw it, as a user's without history does not.

To such a query all rows of one item are equally near, whoever saw it, so no user's lists are nearer than another's and
all would have to be looked through. But there are far fewer items than rows: their scores are soon told, exactly.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching.codebooks import Codebooks, Floats
from cloud_broker.matching.vector_index import Allowed, Rows, Vectors, products

_ROWS_A_HALF = 8  # on average at least: with fewer there is little to gain
_TRIED_FIRST = 16  # halves
_ROWS_A_STEP = 1_000_000
_NOBODY = -1
Grouped = NDArray[np.int32]


class SecondHalves:
    """The different second halves of an inverted file's vectors, and the rows that have each; mapped."""

    def __init__(self, path: Path) -> None:
        """Open what `write` left.

        Raises:
            StorageError: If it cannot be read.
        """
        self._path = path
        try:
            with Path(f"{path}.seconds.npz").open("rb") as file, np.load(file) as known:
                self._columns, self._begins = np.ascontiguousarray(known["halves"].T), known["begins"]
            self.rows: Grouped = np.load(f"{path}.seconds.npy", mmap_mode="r")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StorageError(f"cannot read {path}: {error}") from error

    def __len__(self) -> int:
        """How many there are; 0 where there are too many to be of use."""
        return self._columns.shape[1]

    def nearest(self, half: Floats, count: int, allowed: Allowed | None) -> Rows:
        """The ``count`` rows, or as many as there are, whose second halves are nearest to ``half`` [w], in their order.

        Rows whose vectors were zeroed just now may be among them.
        """
        found, missing = [], count
        scores = products(half[np.newaxis], self._columns, np.empty((1, len(self)), np.float32))[0]
        for number in self._in_order(scores):
            rows = self.rows[self._begins[number] : self._begins[number + 1]]
            rows = rows[rows != _NOBODY]
            if allowed is not None:
                rows = rows[allowed.contains(rows)]
            found.append(rows[:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)

    def erase(self, marked: NDArray[np.bool_]) -> None:
        """Overwrite rows that are marked, [n], in place; on disk when this returns.

        Raises:
            StorageError: If the disk fails.
        """
        try:
            rows: Grouped = np.load(f"{self._path}.seconds.npy", mmap_mode="r+")
            for begin in range(0, len(rows), _ROWS_A_STEP):
                some = rows[begin : begin + _ROWS_A_STEP]
                some[(some != _NOBODY) & marked[some]] = _NOBODY
            if len(rows):
                rows.flush()  # type: ignore[attr-defined]
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot erase in {self._path}.seconds.npy: {error}") from error

    def _in_order(self, scores: Floats) -> Iterator[int]:
        """Numbers of the halves, the best first: mostly one or two are enough, and sorting all takes longest."""
        for _ in range(min(_TRIED_FIRST, len(scores))):
            best = int(scores.argmax())
            yield best
            scores[best] = -np.inf
        yield from np.argsort(-scores)[: max(len(scores) - _TRIED_FIRST, 0)].tolist()


def write(path: Path, books: Codebooks, vectors: Vectors) -> None:
    """Write the second halves of ``vectors`` [n, d], but for rows of zeros; none where few rows have the same.

    Raises:
        StorageError: If the disk fails.
    """
    keys, live = _keys(books, vectors)
    _, firsts, which = np.unique(keys[live], return_index=True, return_inverse=True)
    if len(firsts) * _ROWS_A_HALF > len(live):
        live, firsts, which = live[:0], firsts[:0], which[:0]
    halves = np.ascontiguousarray(books.halves(vectors[live[firsts]])[1])
    begins = np.append(0, np.cumsum(np.bincount(which, minlength=len(firsts))))
    grouped = live[np.argsort(which, kind="stable")].astype(np.int32)
    try:
        np.savez(f"{path}.seconds.npz", halves=halves, begins=begins)
        with Path(f"{path}.seconds.npy").open("wb") as file:
            np.save(file, grouped, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write an inverted file at {path}: {error.strerror}") from error


def _keys(books: Codebooks, vectors: Vectors) -> tuple[NDArray[np.uint64], Rows]:
    """A number for each row, equal for equal second halves, and the rows that are not zeros."""
    keys, live = np.zeros(len(vectors), np.uint64), np.zeros(len(vectors), np.bool_)
    width = books.second.centres.shape[1]
    # Different halves have equal sums of so many random multiples once in 2**64 pairs.
    factors = np.random.default_rng(1).integers(1, 2**64, width, np.uint64, endpoint=False) | np.uint64(1)
    for begin in range(0, len(vectors), _ROWS_A_STEP):
        some = np.ascontiguousarray(vectors[begin : begin + _ROWS_A_STEP])
        bits = np.ascontiguousarray(books.halves(some)[1]).view(np.uint32)
        mixed = (bits * factors) if width else np.zeros((len(some), 1), np.uint64)
        mixed ^= mixed >> np.uint64(29)
        keys[begin : begin + len(some)] = (mixed * np.uint64(0x9E3779B97F4A7C15)).sum(axis=1, dtype=np.uint64)
        live[begin : begin + len(some)] = some.any(axis=1)
    return keys, np.flatnonzero(live)
