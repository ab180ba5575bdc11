"""The engine of large pools: faiss' inverted file over all but the latest rows, and exact search over those.

    {folder}/current.json       which file is in use, and how many of its lists to probe
    {folder}/{name}.faiss       an inverted file; mapped, so that all workers of a machine share it and opening it takes
                                no time
    {folder}/{name}.order.npy   which row each of its vectors is

Vectors lie in their lists in the order of time, so that a window is one stretch of each list. Files are never changed
but to erase rows, in place, for all who have them mapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.vector_index import Allowed, Rows, VectorIndex, Vectors, found, nearest, ordered

_faiss: Any = faiss  # its stubs tell of the C++ interface
_LEAST_TAIL, _TAIL_SHARE = 50_000, 1 / 32  # rows that are searched exactly until a new file takes them in
_DENSE = 0.7  # where so much of a stretch is allowed, the rest is dropped when found
_SPARE = 16
_FILTERED = 1.25
CURRENT = "current.json"


@dataclass(frozen=True)
class Current:
    """Which file is in use.

    Attributes:
        file: Its name, without its ending.
        rows: Rows 0 to ``rows - 1`` are in it.
        probes: How many lists to look through for the nearest 100, 300 and so on, as pairs.
        recall: Share of the nearest that is then found at least, measured when the file was made.
    """

    file: str
    rows: int
    probes: tuple[tuple[int, int], ...]
    recall: float

    def probes_for(self, count: int) -> int:
        """How many lists to look through for ``count`` rows."""
        counts, probes = np.log([pair[0] for pair in self.probes]), np.log([pair[1] for pair in self.probes])
        wanted = float(np.log(max(count, 1)))
        beyond = max(wanted - float(counts[-1]), 0.0) / 2  # with the root, about as it grows between those measured
        return int(np.ceil(np.exp(np.interp(wanted, counts, probes) + beyond)))


class InvertedFileIndex(VectorIndex):
    """Finds most of the nearest rows in a small part of the time that exact search takes."""

    margin: ClassVar[float] = 1.15

    def __init__(self, folder: Path, vectors: Callable[[], Vectors]) -> None:
        """Open what is in ``folder``.

        Args:
            folder: Where the file is.
            vectors: Gives all rows' vectors as they are now, C-contiguous.

        Raises:
            StorageError: If there is none, or it cannot be read.
        """
        self._folder = folder
        self._vectors = vectors
        self._open = Opened(folder)

    def __len__(self) -> int:
        return len(self._vectors())

    @property
    def opened(self) -> Opened:
        """The file in use."""
        return self._open

    def search(self, vector: NDArray[np.float32], count: int, allowed: Allowed | None = None) -> tuple[Rows, Vectors]:
        """See `VectorIndex.search`; the nearest in the lists most alike, and exactly those of the latest rows."""
        opened, vectors = self._open, self._vectors()
        rows, scores = opened.search(vector, count, allowed)
        since = opened.current.rows
        if len(vectors) <= since:
            return rows, scores
        late = None if allowed is None else Allowed(allowed.marked[since:])
        late_rows, late_scores = nearest(vector, vectors[since:], count, late)
        return ordered(np.concatenate([rows, late_rows + since]), np.concatenate([scores, late_scores]), count)

    def grow(self) -> None:
        """Go over to a newer file, if another worker made one."""
        if read_current(self._folder) != self._open.current:
            self._open = Opened(self._folder)

    def outgrown(self) -> bool:
        """Whether so many rows came that it is time for a new file."""
        rows = self._open.current.rows
        return len(self) - rows > max(_LEAST_TAIL, rows * _TAIL_SHARE)

    def erase(self, rows: Rows) -> None:
        """Overwrite rows in the file with zeros, in place; on disk when this returns."""
        self._open.erase(rows, self._vectors())


@dataclass(frozen=True)
class _Filter:
    """A filter as the file's places have it: from ``first`` on, all of them, or those that ``bits`` marks."""

    of: Allowed
    first: int
    share: float
    dense: float
    bits: NDArray[np.uint8]


class Opened:
    """One file, mapped; never changed but by erasing.

    Attributes:
        current: What it is.
        index: faiss' index.
    """

    def __init__(self, folder: Path) -> None:
        current = read_current(folder)
        if current is None:
            raise StorageError(f"no inverted file in {folder}: it is made when the pool is indexed")
        self.current = current
        self._path = folder / f"{current.file}.faiss"
        try:
            self.index: Any = _faiss.read_index(str(self._path), _faiss.IO_FLAG_MMAP | _faiss.IO_FLAG_READ_ONLY)
            self._order: Rows = np.asarray(np.load(folder / f"{current.file}.order.npy", mmap_mode="r"))
        except (RuntimeError, OSError, ValueError) as error:
            raise StorageError(f"cannot read {self._path}: {error}") from error
        self._lists: Any = _faiss.downcast_InvertedLists(self.index.invlists)
        self._lists.prefetch_nthread = 0  # threads for each query would cost more than they save
        self._filter: _Filter | None = None

    def search(self, vector: NDArray[np.float32], count: int, allowed: Allowed | None) -> tuple[Rows, Vectors]:
        """See `VectorIndex.search`."""
        probes = self.current.probes_for(count)
        if allowed is None:
            return self._found(vector, count, probes, None)
        chosen = self._translated(allowed)
        if chosen.share == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        # The fewer may be found, the further apart they lie; and further still, since alike samples are left out alike.
        probes = int(_FILTERED * probes / chosen.share)
        if chosen.dense >= _DENSE:
            stretch = _faiss.IDSelectorRange(chosen.first, self.current.rows, True)
            rows, scores = self._found(vector, int(count / chosen.dense * 1.1) + _SPARE, probes, stretch)
            may = allowed.contains(rows)
            if may.sum() >= count or len(rows) >= self.current.rows - chosen.first:
                return rows[may][:count], scores[may][:count]
        return self._found(vector, count, probes, _faiss.IDSelectorBitmap(chosen.bits))

    def erase(self, rows: Rows, vectors: Vectors) -> None:
        """Overwrite rows, which still have their ``vectors``, with zeros."""
        mine = rows[rows < self.current.rows]
        if not len(mine):
            return
        listed = self.index.quantizer.search(np.ascontiguousarray(vectors[mine]), 1)[1][:, 0]
        places = [place for number in np.unique(listed) for place in self._places(number, mine[listed == number])]
        if len(places) < len(mine):  # rounding may have put a row into the list beside
            places = [place for number in range(self.index.nlist) for place in self._places(number, mine)]
        self._overwrite(places)

    def erase_dead(self, dead: NDArray[np.bool_]) -> None:
        """Overwrite rows that are marked, [n], with zeros."""
        rows = np.flatnonzero(dead[: self.current.rows])
        if len(rows):
            self._overwrite([place for number in range(self.index.nlist) for place in self._places(number, rows)])

    def _found(self, vector: NDArray[np.float32], count: int, probes: int, selector: Any) -> tuple[Rows, Vectors]:
        # OpenMP counts threads per caller, so each worker thread says so for itself.
        _faiss.omp_set_num_threads(1)
        query = np.ascontiguousarray(vector[np.newaxis], np.float32)
        parameters = probing(min(probes, int(self.index.nlist)), selector)
        scores, places = self.index.search(query, min(count, self.current.rows), params=parameters)
        inside = np.count_nonzero(places[0] >= 0)
        return found(self._order[places[0][:inside]], scores[0][:inside])

    def _translated(self, allowed: Allowed) -> _Filter:
        """The filter in the order of the file; made once, since it is asked for again and again."""
        known = self._filter
        if known is None or known.of is not allowed:
            marked = np.zeros(self.current.rows, np.bool_)
            marked[: len(allowed.marked)] = allowed.marked[: self.current.rows]
            marked = marked[self._order]
            first = int(marked.argmax())
            share, dense = float(marked.mean()), float(marked[first:].mean())
            known = self._filter = _Filter(allowed, first, share, dense, np.packbits(marked, bitorder="little"))
        return known

    def _places(self, number: int, rows: Rows) -> list[int]:
        """Where in the file the vectors of rows lie that are in one list."""
        size = self._lists.list_size(int(number))
        if not size:
            return []
        held = self._order[_faiss.rev_swig_ptr(self._lists.get_ids(int(number)), size)]
        begin = int(self._lists.lists.at(int(number)).offset)
        return [begin + int(at) * int(self._lists.code_size) for at in np.flatnonzero(np.isin(held, rows))]

    def _overwrite(self, places: list[int]) -> None:
        zeros = bytes(self._lists.code_size)
        try:
            with self._path.open("r+b") as file:
                for place in places:
                    file.seek(place)
                    file.write(zeros)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot erase in {self._path}: {error.strerror}") from error


def probing(probes: int, selector: Any = None) -> Any:
    """Faiss' parameters of a search."""
    return _faiss.SearchParametersIVF(nprobe=probes, sel=selector)


def read_current(folder: Path) -> Current | None:
    """Which file is in use; None if none is.

    Raises:
        StorageError: If that cannot be read.
    """
    path = folder / CURRENT
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        return Current(**{**values, "probes": tuple((int(k), int(probes)) for k, probes in values["probes"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(f"cannot read {path}: {error}") from error
