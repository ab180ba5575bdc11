"""Searching one inverted file.

Codes say which rows to look at closely: some times as many as are asked for are compared by their vectors, so scores
are exact. A vector's id is its place in the order of time, so that a window is a range of ids.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching.codebooks import Codebooks, Floats
from cloud_broker.matching.fast_scan import fast_scan, scan
from cloud_broker.matching.inverted_current import Current, read_current
from cloud_broker.matching.list_choice import ListChoice, Listed, Looked, missed
from cloud_broker.matching.packed_lists import PackedLists
from cloud_broker.matching.paging import touched
from cloud_broker.matching.second_halves import SecondHalves
from cloud_broker.matching.vector_index import Allowed, Found, Rows, Vectors, best

_faiss: Any = faiss  # its stubs tell of the C++ interface
_DENSE = 0.7  # where so much of a stretch is allowed, the rest is dropped when found
_SPARE = 16
_MORE = 1.05  # times as many as should be enough where some are dropped


@dataclass(frozen=True)
class _Filter:
    """A filter as the file's places have it: from ``first`` on, all of them, or those that ``bits`` marks.

    ``dense`` is the share of the former that the latter are, ``listed`` how many of these each list has; `missed` says
    what ``may_miss`` is.
    """

    of: Allowed
    first: int
    dense: float
    bits: NDArray[np.uint8]
    listed: Listed
    may_miss: float


@dataclass(frozen=True)
class _Asked:
    """Queries [m, d], how many rows each asks for and takes at most, and the vectors of all rows."""

    queries: Floats
    counts: NDArray[np.int64]
    most: NDArray[np.int64]
    vectors: Vectors

    def times(self, factor: float, spare: int, bound: int) -> _Asked:
        """The same asking for more."""
        counts, most = (np.minimum(many * factor + spare, bound) * (many > 0) for many in (self.counts, self.most))
        return replace(self, counts=counts.astype(np.int64), most=most.astype(np.int64))

    def some(self, mine: list[int]) -> _Asked:
        """Some of them."""
        return _Asked(self.queries[mine], self.counts[mine], self.most[mine], self.vectors)


class Opened:
    """One file, mapped; never changed but by erasing.

    Attributes:
        current: What it is.
        index: faiss' index.
        lists: Its lists.
        books: What they are lists of.
        seconds: The rows by their second halves.
        choice: Which of them to look through.
    """

    def __init__(self, folder: Path, current: Current | None = None) -> None:
        current = current or read_current(folder)
        if current is None:
            raise StorageError(f"no inverted file in {folder}: it is made when the pool is indexed")
        self.current = current
        path = folder / current.file
        try:
            with np.load(f"{path}.lists.npz") as known:
                self.books, sizes, levels = Codebooks.read(known), known["sizes"], known["levels"]
            # As an array: numpy.memmap adds some time to each look.
            self.order: Rows = np.asarray(np.load(f"{path}.order.npy", mmap_mode="r"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        self.lists = PackedLists(path.with_name(f"{path.name}.lists"), sizes, (self.books.width + 1) // 2)
        self.choice = ListChoice(self.books, sizes)
        self.seconds = SecondHalves(path)
        self.levels: Floats = levels
        self.index = fast_scan(self.books.width, len(sizes), levels)
        self.index.replace_invlists(self.lists.mapped, False)
        self.index.ntotal = int(sizes.sum())
        self._all = _faiss.IDSelectorRange(0, self.current.rows)
        self._filter: _Filter | None = None

    def touch(self) -> None:
        """Have its pages at hand, see `touched`."""
        touched(_faiss.rev_swig_ptr(self.lists.mapped.ptr, self.lists.mapped.totsize))
        touched(self.order)
        touched(self.seconds.rows)

    def search_many(
        self,
        queries: Floats,
        counts: Sequence[int],
        allowed: Allowed | None,
        vectors: Vectors,
        most: Sequence[int] | None = None,
    ) -> list[Found]:
        """See `VectorIndex.search_many`; ``vectors`` are those of all rows."""
        rows = self.current.rows
        queries = np.ascontiguousarray(queries, np.float32)
        asked = _Asked(queries, np.minimum(counts, rows), np.minimum(counts if most is None else most, rows), vectors)
        by_lists = self.by_lists(queries)
        if by_lists.all():
            return self._within(asked, allowed)
        mine = np.flatnonzero(by_lists).tolist()
        found = dict(zip(mine, self._within(asked.some(mine), allowed), strict=True)) if mine else {}
        for number in np.flatnonzero(~by_lists).tolist():
            few = self._of_all if not queries[number].any() else self._by_second_half
            found[number] = few(asked.some([number]), allowed)
        return [found[number] for number in range(len(queries))]

    def by_lists(self, queries: Floats) -> NDArray[np.bool_]:
        """Which queries, [m], are searched by lists; those to which many rows are equally near are not."""
        first, second = (half.any(axis=1) for half in self.books.halves(queries))
        searched: NDArray[np.bool_] = first | (second & (len(self.seconds) == 0))
        return searched

    def _of_all(self, asked: _Asked, allowed: Allowed | None) -> Found:
        """The first rows, for a query of zeros: all are equally near to it."""
        rows = self.current.rows
        may = np.arange(rows) if allowed is None else np.flatnonzero(allowed.marked[:rows])
        may = may[: asked.most[0]]
        return may, np.zeros(len(may), np.float32)

    def _by_second_half(self, asked: _Asked, allowed: Allowed | None) -> Found:
        half = self.books.halves(asked.queries)[1][0]
        rows = self.seconds.nearest(half, int(asked.most[0]), allowed)
        scores = _scores(asked.queries, rows[np.newaxis], asked.vectors)[0]
        unsure = np.flatnonzero(scores == 0)
        if len(unsure):
            erased = unsure[~asked.vectors[rows[unsure]].any(axis=1)]  # just now
            rows, scores = np.delete(rows, erased), np.delete(scores, erased)
        return best(rows[np.newaxis], scores[np.newaxis], asked.most)[0]

    def _within(self, asked: _Asked, allowed: Allowed | None) -> list[Found]:
        if allowed is None:
            return self._found(asked, self._all, self.choice.everything, 1.0)
        chosen = self._translated(allowed)
        if chosen.listed.nothing:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(asked.queries)
        marked = _faiss.IDSelectorBitmap(chosen.bits)
        if chosen.dense < _DENSE:
            return self._found(asked, marked, chosen.listed, chosen.may_miss)
        stretch = self.current.rows - chosen.first
        more = asked.times(_MORE / chosen.dense, _SPARE, stretch)
        stretched = _faiss.IDSelectorRange(chosen.first, self.current.rows)
        found = self._found(more, stretched, chosen.listed, chosen.may_miss)
        # Looked up for all queries at once.
        may_all = np.split(allowed.contains(np.concatenate([rows for rows, _ in found])), _ends(found)[:-1])
        for number, ((rows, scores), may) in enumerate(zip(found, may_all, strict=True)):
            most = asked.most[number]
            found[number] = rows[may][:most], scores[may][:most]
            if np.count_nonzero(may) < asked.counts[number] and len(rows) < stretch:
                found[number] = self._found(asked.some([number]), marked, chosen.listed, chosen.may_miss)[0]
        return found

    def chosen_lists(self, queries: Floats, counts: NDArray[np.int64]) -> Looked:
        """The lists that are looked through for ``counts`` rows of each query where no filter is, see `ListChoice`."""
        return self.choice.choose(queries, counts.astype(np.float32), self.current.looks_for(counts)[0])

    def compared(self, queries: Floats, ids: NDArray[np.int64], vectors: Vectors) -> tuple[Rows, Floats]:
        """The rows of ids [m, n], -1 for none, and their scores by their vectors."""
        rows = np.where(ids >= 0, self.order[ids], -1)
        return rows, _scores(queries, rows, vectors)

    def erase(self, rows: Rows, vectors: Vectors) -> None:
        """Overwrite rows, which still have their ``vectors``, with zeros."""
        mine = rows[rows < self.current.rows]
        if not len(mine):
            return
        marked = np.zeros(self.current.rows, np.bool_)
        marked[mine] = True
        self.seconds.erase(marked)
        listed = np.unique(self.books.nearest(vectors[mine])[0])
        if self.lists.erase(listed, marked[self.order]) < len(mine):
            # Rounding may have put a row into the list beside.
            self._erase_in_lists(marked)

    def erase_dead(self, dead: NDArray[np.bool_]) -> None:
        """Overwrite rows that are marked, [n], with zeros."""
        if dead.any():
            self.seconds.erase(dead)
            self._erase_in_lists(dead)

    def _erase_in_lists(self, marked: NDArray[np.bool_]) -> None:
        self.lists.erase(np.arange(len(self.lists.sizes)), marked[self.order])

    def _found(self, asked: _Asked, selector: Any, listed: Listed, may_miss: float) -> list[Found]:
        """The best that a selector lets through, which are as many of each list as is ``listed``; see `_Filter`."""
        # OpenMP counts threads per caller, so each worker thread says so for itself.
        _faiss.omp_set_num_threads(1)
        reach, times = self.current.looks_for(asked.counts)
        candidates = np.maximum(np.ceil(asked.counts * times).astype(np.int64), asked.most) + _SPARE
        candidates = np.minimum(candidates, self.current.rows)
        reach = 1 - may_miss * (1 - reach)
        looked = self.choice.choose(asked.queries, asked.counts.astype(np.float32), reach, listed)
        ids = scan(self.index, asked.queries, *looked, int(candidates.max()), selector=selector)
        ids[np.arange(ids.shape[1]) >= candidates[:, np.newaxis]] = -1
        rows, scores = self.compared(asked.queries, ids, asked.vectors)
        return best(rows, scores, asked.most)

    def _translated(self, allowed: Allowed) -> _Filter:
        """The filter in the order of the file; made once, since it is asked for again and again."""
        known = self._filter
        if known is None or known.of is not allowed:
            marked = np.zeros(self.current.rows, np.bool_)
            marked[: len(allowed.marked)] = allowed.marked[: self.current.rows]
            marked = marked[self.order]
            first = int(marked.argmax())
            bits, counts = np.packbits(marked, bitorder="little"), self.lists.count(marked)
            dense, listed = float(marked[first:].mean()), self.choice.listed(counts)
            known = self._filter = _Filter(allowed, first, dense, bits, listed, missed(counts, self.lists.sizes))
        return known


def _ends(found: list[Found]) -> NDArray[np.int64]:
    """Where those of each query end."""
    return np.cumsum([len(rows) for rows, _ in found])


def _scores(queries: Floats, rows: Rows, vectors: Vectors) -> Floats:
    """Inner products of queries [m, d] with the vectors of rows [m, n], -1 for none."""
    scores = np.empty(rows.shape, np.float32)
    pointers = [_faiss.swig_ptr(array) for array in (scores, queries, vectors, rows)]
    _faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
    return scores
