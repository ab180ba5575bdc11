"""The pool by user: whose tastes agree with a device's, and what these users' samples are.

Only an evaluation has this: it knows each pool sample's user, where a device never does. It serves the rivals that
match whole users, as MPDA and FedAvg do, and a way of matching to compare our own with.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.samples import SampleBatch

Users = NDArray[np.int64]
Rows = NDArray[np.int64]


class Neighbours:
    """Users of the pool.

    Args:
        pool: Samples with a feature ``item``.
        owner: [n], each sample's user.
    """

    def __init__(self, pool: SampleBatch, owner: NDArray[np.integer[Any]]) -> None:
        self.pool = pool
        self.users, self._place, self._count = np.unique(owner, return_inverse=True, return_counts=True)
        self._rows: Rows = np.argsort(self._place, kind="stable").astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._count)])

    @cached_property
    def positive_rate(self) -> float:
        """Share of positives among the pool's samples."""
        return float(np.mean(self.pool.label))

    @cached_property
    def _likes(self) -> NDArray[np.float32]:
        return np.asarray(self.pool.label, np.float32) * 2 - 1

    def rank(self, local: SampleBatch, asker: int | None = None) -> Users:
        """Users of the pool by how much they agree with ``local``, the closest first; the asker left out.

        A user's agreement is the number of shared items with equal labels less those with unequal ones, over the square
        root of the user's samples: who rated everything agrees with everyone a little.
        """
        opinion = np.zeros(self.pool.schema["item"].vocabulary or 0, np.float32)
        opinion[local.features["item"]] = local.label * 2 - 1
        shared = opinion[self.pool.features["item"]] * self._likes
        agreement = np.bincount(self._place, shared, len(self.users)) / np.sqrt(self._count)
        ranked: Users = self.users[np.argsort(-agreement, kind="stable")].astype(np.int64)
        others: Users = ranked[ranked != asker] if asker is not None else ranked
        return others

    def rows(self, user: int) -> Rows:
        """The pool's rows of one user, ascending."""
        place = int(np.searchsorted(self.users, user))
        rows: Rows = self._rows[self._starts[place] : self._starts[place + 1]]
        return rows

    def samples(self, user: int) -> SampleBatch:
        """One user's samples."""
        return self.pool.take(self.rows(user))

    def rows_of_first(self, users: Users, samples: int) -> Rows:
        """Rows of ``users``, user after user, until there are ``samples``."""
        found: list[Rows] = []
        while samples > sum(map(len, found)) and len(found) < len(users):
            found.append(self.rows(int(users[len(found)])))
        rows: Rows = np.concatenate([np.zeros(0, np.int64), *found])[:samples]
        return rows
