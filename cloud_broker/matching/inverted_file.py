"""The engine of large pools: an inverted file over all but the latest rows, and exact search over those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from cloud_broker.matching.codebooks import Floats
from cloud_broker.matching.inverted_current import discard_older, read_current
from cloud_broker.matching.inverted_search import Opened
from cloud_broker.matching.paging import touched
from cloud_broker.matching.vector_index import Allowed, Found, Rows, VectorIndex, Vectors, nearest, nearest_of, ordered

__all__ = ["InvertedFileIndex", "Opened", "discard_older", "read_current"]

_FEW = 16_384  # compared in a few ms; and the lists in which so few are likeliest may well have none of them
_LEAST_TAIL, _TAIL_SHARE = 50_000, 1 / 128  # rows that are searched exactly until a new file takes them in


class InvertedFileIndex(VectorIndex):
    """Finds most of the nearest rows in a small part of the time that exact search takes."""

    margin: ClassVar[float] = 1.1

    def __init__(self, folder: Path, vectors: Callable[[], Vectors], *, few: int = _FEW) -> None:
        """Open what is in ``folder``.

        Args:
            folder: Where the file is.
            vectors: Gives all rows' vectors as they are now, C-contiguous.
            few: Where no more rows may be found they are all compared.

        Raises:
            StorageError: If there is none, or it cannot be read.
        """
        self._folder = folder
        self._vectors = vectors
        self._few = few
        self._open = Opened(folder)
        self._touch()

    def __len__(self) -> int:
        return len(self._vectors())

    @property
    def opened(self) -> Opened:
        """The file in use."""
        return self._open

    def search(self, vector: Floats, count: int, allowed: Allowed | None = None) -> Found:
        """See `VectorIndex.search`."""
        return self.search_many(vector[np.newaxis], [count], allowed)[0]

    def search_many(
        self,
        vectors: Vectors,
        counts: Sequence[int],
        allowed: Allowed | None = None,
        most: Sequence[int] | None = None,
    ) -> list[Found]:
        """See `VectorIndex.search_many`; what the file finds, and exactly the nearest of the latest rows."""
        opened, everything, most = self._open, self._vectors(), counts if most is None else most
        if allowed is not None and allowed.count <= self._few:
            return nearest_of(allowed.rows, vectors, everything, most)
        found = opened.search_many(vectors, counts, allowed, everything, most)
        since = opened.current.rows
        if len(everything) > since:
            late = None if allowed is None else Allowed(allowed.marked[since:])
            latest = [nearest(one, everything[since:], many, late) for one, many in zip(vectors, most, strict=True)]
            return [_joined(*some, since) for some in zip(found, latest, most, strict=True)]
        return found

    def grow(self) -> None:
        """Go over to a newer file, if another worker made one."""
        if read_current(self._folder) != self._open.current:
            self._open = Opened(self._folder)
            self._touch()

    def outgrown(self) -> bool:
        """Whether so many rows came that it is time for a new file."""
        rows = self._open.current.rows
        return len(self) - rows > max(_LEAST_TAIL, rows * _TAIL_SHARE)

    def erase(self, rows: Rows) -> None:
        """Overwrite rows in the file with zeros, in place; on disk when this returns."""
        self._open.erase(rows, self._vectors())

    def _touch(self) -> None:
        self._open.touch()
        touched(self._vectors())


def _joined(early: Found, late: Found, count: int, since: int) -> Found:
    """The best of the file's rows and of those that came ``since``."""
    rows = np.concatenate([early[0], late[0] + since])
    return ordered(rows, np.concatenate([early[1], late[1]]), count)
