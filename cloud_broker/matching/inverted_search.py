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
from cloud_broker.matching.fast_scan import fast_scan, nearest_centres, scan
from cloud_broker.matching.inverted_current import Current, read_current
from cloud_broker.matching.list_choice import Floats, ListChoice, Looked
from cloud_broker.matching.packed_lists import PackedLists
from cloud_broker.matching.paging import touched
from cloud_broker.matching.vector_index import Allowed, Found, Rows, Vectors, best

_faiss: Any = faiss  # its stubs tell of the C++ interface
_DENSE = 0.7  # where so much of a stretch is allowed, the rest is dropped when found
_SPARE = 16
_FILTERED = 0.5  # of what may be missed, with a filter: alike samples are left out alike, so the rest lie elsewhere


@dataclass(frozen=True)
class _Filter:
    """A filter as the file's places have it: from ``first`` on, all of them, or those that ``bits`` marks.

    ``dense`` is the share of the former that the latter are, ``sizes`` [lists] how many of these each list has.
    """

    of: Allowed
    first: int
    dense: float
    bits: NDArray[np.uint8]
    sizes: NDArray[np.int64]


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

    def one(self, number: int) -> _Asked:
        """One of them."""
        mine = slice(number, number + 1)
        return _Asked(self.queries[mine], self.counts[mine], self.most[mine], self.vectors)


class Opened:
    """One file, mapped; never changed but by erasing.

    Attributes:
        current: What it is.
        index: faiss' index.
        lists: Its lists.
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
                centres, levels, sizes, squares = (known[name] for name in ("centres", "levels", "sizes", "squares"))
            self.order: Rows = np.load(f"{path}.order.npy", mmap_mode="r")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        self.lists = PackedLists(path.with_name(f"{path.name}.lists"), sizes, (centres.shape[1] + 1) // 2)
        self.choice = ListChoice(centres, sizes, squares)
        self.levels: Floats = levels
        self.squares: NDArray[np.float64] = squares
        self._quantizer: Any = _faiss.IndexFlatL2(centres.shape[1])
        self._quantizer.add(centres)
        self.index = fast_scan(self._quantizer, levels)
        self.index.replace_invlists(self.lists.mapped, False)
        self.index.ntotal = int(sizes.sum())
        self._filter: _Filter | None = None

    def touch(self) -> None:
        """Have the lists' and the order's pages at hand, see `touched`."""
        touched(_faiss.rev_swig_ptr(self.lists.mapped.ptr, self.lists.mapped.totsize))
        touched(self.order)

    @property
    def centres(self) -> Floats:
        """Centres of the lists, [lists, d]."""
        centres: Floats = self._quantizer.reconstruct_n(0, self._quantizer.ntotal)
        return centres

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
        found = self._within(asked, allowed)
        for number in np.flatnonzero(~queries.any(axis=1)).tolist():  # to which all are equally near
            may = np.arange(rows) if allowed is None else np.flatnonzero(allowed.marked[:rows])
            may = may[: asked.most[number]]
            found[number] = may, np.zeros(len(may), np.float32)
        return found

    def _within(self, asked: _Asked, allowed: Allowed | None) -> list[Found]:
        if allowed is None:
            return self._found(asked, _faiss.IDSelectorRange(0, self.current.rows), None)
        chosen = self._translated(allowed)
        if not chosen.sizes.any():
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(asked.queries)
        marked = _faiss.IDSelectorBitmap(chosen.bits)
        if chosen.dense < _DENSE:
            return self._found(asked, marked, chosen.sizes)
        stretch = self.current.rows - chosen.first
        more = asked.times(1.1 / chosen.dense, _SPARE, stretch)
        found = self._found(more, _faiss.IDSelectorRange(chosen.first, self.current.rows), chosen.sizes)
        for number, (rows, scores) in enumerate(found):
            may, most = allowed.contains(rows), asked.most[number]
            found[number] = rows[may][:most], scores[may][:most]
            if may.sum() < asked.counts[number] and len(rows) < stretch:
                found[number] = self._found(asked.one(number), marked, chosen.sizes)[0]
        return found

    def chosen_lists(
        self, queries: Floats, counts: NDArray[np.int64], sizes: NDArray[np.int64] | None = None
    ) -> Looked:
        """The lists that are looked through for ``counts`` rows of each query, see `ListChoice`."""
        reach = self.current.looks_for(counts)[0]
        if sizes is not None:
            reach = 1 - _FILTERED * (1 - reach)
        return self.choice.choose(queries, counts.astype(np.float32), reach, sizes)

    def compared(self, queries: Floats, ids: NDArray[np.int64], vectors: Vectors) -> tuple[Rows, Floats]:
        """The rows of ids [m, n], -1 for none, and their scores by their vectors."""
        rows = np.where(ids >= 0, self.order[ids], -1)
        scores = np.empty(rows.shape, np.float32)
        pointers = [_faiss.swig_ptr(array) for array in (scores, queries, vectors, rows)]
        _faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *rows.shape)
        return rows, scores

    def erase(self, rows: Rows, vectors: Vectors) -> None:
        """Overwrite rows, which still have their ``vectors``, with zeros."""
        mine = rows[rows < self.current.rows]
        if not len(mine):
            return
        marked = np.zeros(self.current.rows, np.bool_)
        marked[mine] = True
        listed = np.unique(nearest_centres(self._quantizer, vectors[mine]))
        if self.lists.erase(listed, marked[self.order]) < len(mine):
            # Rounding may have put a row into the list beside.
            self.erase_dead(marked)

    def erase_dead(self, dead: NDArray[np.bool_]) -> None:
        """Overwrite rows that are marked, [n], with zeros."""
        marked = dead[self.order]
        if marked.any():
            self.lists.erase(np.arange(len(self.lists.sizes)), marked)

    def _found(self, asked: _Asked, selector: Any, sizes: NDArray[np.int64] | None) -> list[Found]:
        """The best that a selector lets through, which are ``sizes`` of each list."""
        # OpenMP counts threads per caller, so each worker thread says so for itself.
        _faiss.omp_set_num_threads(1)
        times = self.current.looks_for(asked.counts)[1]
        candidates = np.maximum(np.ceil(asked.counts * times).astype(np.int64), asked.most) + _SPARE
        candidates = np.minimum(candidates, self.current.rows)
        looked = self.chosen_lists(asked.queries, asked.counts, sizes)
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
            bits, sizes = np.packbits(marked, bitorder="little"), self.lists.count(marked)
            known = self._filter = _Filter(allowed, first, float(marked[first:].mean()), bits, sizes)
        return known
