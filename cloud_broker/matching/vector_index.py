"""Engines that find the rows whose vectors are nearest: one interface, and the exact one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

_faiss: Any = faiss  # its stubs tell of the C++ interface
Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Found = tuple[Rows, Vectors]
"""Rows and their scores, the best first, equal scores in the order of rows."""
_ON_ONE_THREAD = 2**18  # multiplications up to which OpenBLAS, which NumPy uses, does not share a product among threads
_ONE_ON_ONE_THREAD = 9_000  # the same for a product with one vector, some less


@dataclass(frozen=True)
class Allowed:
    """Which rows may be found.

    Attributes:
        marked: bool, one a row; rows beyond its end may not be found.
    """

    marked: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Share of the rows that may be found."""
        return self.count / max(len(self.marked), 1)

    @cached_property
    def rows(self) -> Rows:
        """The rows that may be found, ascending."""
        return np.flatnonzero(self.marked)

    @cached_property
    def count(self) -> int:
        """How many these are."""
        return int(np.count_nonzero(self.marked))

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """The same, one bit a row, the lowest bit first."""
        return np.packbits(self.marked, bitorder="little")

    def contains(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether rows are among them, [n]."""
        inside = rows < len(self.marked)
        found: NDArray[np.bool_] = inside & self.marked[np.where(inside, rows, 0)] if len(self.marked) else inside
        return found


class VectorIndex(ABC):
    """Rows and their vectors, [n, d] float32, compared by inner product; safe to search from several threads.

    Attributes:
        margin: How many times as many rows to ask for where some will be dropped: more where asking is cheap.
    """

    margin: ClassVar[float] = 2.0

    @abstractmethod
    def __len__(self) -> int:
        """Rows that can be found."""

    @abstractmethod
    def search(self, vector: NDArray[np.float32], count: int, allowed: Allowed | None = None) -> Found:
        """The nearest rows and their scores, the best first, equal scores in the order of rows.

        Args:
            vector: float32 [d].
            count: At most so many.
            allowed: Which rows may be found; all if None.
        """

    def search_many(
        self,
        vectors: Vectors,
        counts: Sequence[int],
        allowed: Allowed | None = None,
        most: Sequence[int] | None = None,
    ) -> list[Found]:
        """`search` for several vectors at once: an inverted file takes less time than for one after the other.

        They may be the centroids of one question, or of all questions that wait together: the same rows may be found
        for each.

        Args:
            vectors: float32 [m, d].
            counts: How many for each.
            allowed: Which rows may be found; all if None.
            most: As many for each at most, not fewer than ``counts``, where some will be dropped: beyond ``counts`` an
                engine that misses some of the nearest may miss more. None for ``counts``.

        Returns:
            What is found for each.
        """
        wanted = zip(vectors, counts if most is None else most, strict=True)
        return [self.search(vector, count, allowed) for vector, count in wanted]

    def grow(self) -> None:  # noqa: B027 - most engines see new rows by themselves
        """Take in rows that were added since."""

    def erase(self, rows: Rows) -> None:  # noqa: B027 - most engines hold no copy
        """Lose what is held of rows; to be called while their vectors are still there."""

    def close(self) -> None:  # noqa: B027 - most engines hold nothing open
        """Let go of files and connections."""


class ExactIndex(VectorIndex):
    """Compares with every row, in place: no copy of the vectors is made, so what is erased there is gone here."""

    def __init__(self, vectors: Callable[[], Vectors]) -> None:
        """``vectors`` gives all rows' vectors as they are now, C-contiguous."""
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors())

    def search(self, vector: NDArray[np.float32], count: int, allowed: Allowed | None = None) -> Found:
        """See `VectorIndex.search`."""
        return nearest(vector, self._vectors(), count, allowed)


def nearest(vector: NDArray[np.float32], vectors: Vectors, count: int, allowed: Allowed | None = None) -> Found:
    """The nearest of ``vectors`` [n, d] by inner product: rows and scores, see `VectorIndex.search`; one thread."""
    vectors = vectors if allowed is None else vectors[: len(allowed.marked)]
    count = min(count, len(vectors))
    scores, rows = np.empty(count, np.float32), np.empty(count, np.int64)
    if count == 0:
        return rows, scores
    # OpenMP counts threads per caller, so each worker thread says so for itself.
    _faiss.omp_set_num_threads(1)
    query = np.ascontiguousarray(vector, np.float32)
    vectors = np.ascontiguousarray(vectors)
    pointers = [_faiss.swig_ptr(array) for array in (query, vectors, scores, rows)]
    selector = None if allowed is None else _faiss.IDSelectorBitmap(allowed.bits)
    _faiss.knn_inner_product(*pointers[:2], vectors.shape[1], 1, len(vectors), count, *pointers[2:], selector)
    return found(rows, scores)


def products(queries: Vectors, columns: Vectors, out: Vectors) -> Vectors:
    """Inner products of queries [m, d] with columns [d, n] into ``out`` [m, n], which is returned; one thread."""
    if len(queries) == 1 and columns.size >= _ONE_ON_ONE_THREAD:
        out[:] = products(np.repeat(queries, 2, axis=0), columns, np.empty((2, columns.shape[1]), np.float32))[:1]
        return out
    step = max(_ON_ONE_THREAD // max(queries.size, 1), 1)
    for begin in range(0, columns.shape[1], step):
        np.matmul(queries, columns[:, begin : begin + step], out=out[:, begin : begin + step])
    return out


def nearest_of(rows: Rows, queries: Vectors, vectors: Vectors, counts: Sequence[int]) -> list[Found]:
    """The nearest of few rows, exactly, on one thread: takes 4 bytes for each of them and each dimension or query.

    Args:
        rows: int64 [n], which may be found, ascending.
        queries: float32 [m, d].
        vectors: float32 [all, d], of all rows.
        counts: At most so many for each query, [m].

    Returns:
        What is found for each query, as `VectorIndex.search` has it.
    """
    columns = np.ascontiguousarray(vectors[rows].T)
    queries = np.ascontiguousarray(queries, np.float32)
    scores = products(queries, columns, np.empty((len(queries), len(rows)), np.float32))
    return best(np.broadcast_to(rows, scores.shape), scores, np.asarray(counts))


def found(rows: Rows, scores: Vectors) -> Found:
    """What faiss found, the best first and at the end perhaps nothing: as `VectorIndex.search` has it."""
    rows, scores = rows[: np.count_nonzero(rows >= 0)], scores[: np.count_nonzero(rows >= 0)]
    return ordered(rows, scores) if (scores[1:] == scores[:-1]).any() else (rows, scores)


def ordered(rows: Rows, scores: Vectors, count: int | None = None) -> Found:
    """The best ``count`` first, equal scores in the order of rows: the choice hangs on no engine's internals."""
    return _of_keys(np.sort(_keys(rows, scores))[:count])


def best(rows: Rows, scores: Vectors, counts: NDArray[np.int64]) -> list[Found]:
    """The best ``counts`` [m] of rows [m, n] in no order, of which those below 0 are none.

    Those of all together are found in the time that two alone take.
    """
    many = np.minimum(np.count_nonzero(rows >= 0, axis=1), counts).tolist()
    keys, most = _keys(rows, scores), max(many, default=0)
    if 0 < 2 * most < keys.shape[1]:
        keys = np.partition(keys, most - 1)[:, :most]
    rows, scores = _of_keys(np.sort(keys)[:, :most])
    return [(mine[:few], theirs[:few]) for mine, theirs, few in zip(rows, scores, many, strict=True)]


def _keys(rows: Rows, scores: Vectors) -> NDArray[np.uint64]:
    """Score and row as one number each, the best least: they are sorted in a tenth of the time that two keys take.

    Rows are below 2**32; one below 0 is last.
    """
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)  # of the two zeros one
    bits = np.where(bits >> 31, bits, bits ^ np.uint32(0x7FFFFFFF))  # ascending as scores descend
    return bits.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)


def _of_keys(keys: NDArray[np.uint64]) -> Found:
    """Inverse of `_keys`."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(bits >> 31, bits, bits ^ np.uint32(0x7FFFFFFF))
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), bits.view(np.float32)
