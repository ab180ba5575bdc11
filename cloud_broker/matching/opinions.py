"""Who has an opinion of which item: rows of the pool by item and by contributor, to find whose tastes agree.

Only row numbers are kept; items, labels and contributors are looked up in the pool's columns, where what is forgotten
is gone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vector_index import Rows

_Ids = NDArray[np.integer[Any]]
_QUICK_ROWS = 200_000  # a table of so few is made anew whenever the pool has grown
_GROWTH = 1 / 32


class Opinions:
    """A table over the rows that a pool has now; 4 bytes a row.

    A contributor's opinion of an item is that of its row that came last.
    """

    def __init__(self, items: _Ids, contributors: _Ids) -> None:
        """Make the table.

        Args:
            items: int [n], each row's item.
            contributors: int [n], each row's contributor; rows of negative ones are nobody's and left out.
        """
        self._total = len(items)
        rows = np.flatnonzero(np.asarray(contributors) >= 0)
        who = np.asarray(contributors)[rows]
        key = np.asarray(items)[rows].astype(np.int64) * (int(who.max(initial=0)) + 1) + who
        order = np.argsort(key, kind="stable")
        last = np.append(key[order][1:] != key[order][:-1], True)[: len(order)]
        self._rows = rows[order[last]].astype(np.int32)
        self._items = _starts(np.asarray(items)[self._rows])
        # Contributions are stretches of rows, far fewer than rows.
        changes = np.flatnonzero(np.append(True, who[1:] != who[:-1])[: len(who)] | _gaps(rows))
        ends = np.append(changes[1:], len(rows))
        by_owner = np.argsort(who[changes], kind="stable")
        self._stretch_owners = who[changes][by_owner]
        self._stretches = np.stack([rows[changes], rows[changes] + ends - changes])[:, by_owner]

    def __len__(self) -> int:
        return self._total

    def outgrown(self, rows: int) -> bool:
        """Whether a pool of so many rows is to have a new table."""
        return rows > self._total * (1 + _GROWTH) or self._total < rows <= _QUICK_ROWS

    def of_items(self, items: _Ids) -> tuple[Rows, NDArray[np.int64]]:
        """The rows that say something of items, and the place in ``items`` of what each is about, [n] both."""
        known = items < len(self._items) - 1
        at = np.where(known, items, 0)
        begins, ends = self._items[at], np.where(known, self._items[at + 1] if len(self._items) > 1 else 0, 0)
        places, within = _spread(np.maximum(ends - begins, 0))
        return self._rows[begins[places] + within].astype(np.int64), places

    def of_contributors(self, contributors: _Ids) -> tuple[Rows, NDArray[np.int64]]:
        """All rows of contributors, in the order of rows for each, and the place in ``contributors``, [n] both."""
        first = np.searchsorted(self._stretch_owners, contributors)
        last = np.searchsorted(self._stretch_owners, contributors, side="right")
        whose, within = _spread(last - first)
        stretches = self._stretches[:, first[whose] + within]
        places, within = _spread(stretches[1] - stretches[0])
        return (stretches[0][places] + within).astype(np.int64), whose[places]


def _starts(ascending: _Ids) -> NDArray[np.int64]:
    """Where the rows of each number begin, [numbers + 1]."""
    counts = np.bincount(ascending) if len(ascending) else np.zeros(0, np.int64)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _gaps(rows: Rows) -> NDArray[np.bool_]:
    return np.append(False, rows[1:] != rows[:-1] + 1)[: len(rows)]


def _spread(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For counts (2, 0, 1): whose each is, (0, 0, 2), and its number among them, (0, 1, 0)."""
    whose = np.repeat(np.arange(len(counts)), counts)
    return whose, np.arange(len(whose)) - np.repeat(np.cumsum(counts) - counts, counts)
