"""Matching by profile: the pool's samples nearest to what a device's own are like.

A profile is a few centroids of the device's own sample vectors and the share of its samples near each. A centroid gets
as many of the pool's samples as its share says, the nearest ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.matcher import Matcher, PoolView, quotas
from cloud_broker.matching.options import PLAIN, MatchOptions
from cloud_broker.matching.vector_index import ExactIndex, Rows, VectorIndex
from protocol.errors import MalformedMessageError
from protocol.messages import Query

_NEEDED = 1.06  # rows that it takes to fill a quota where few drop out, as half of the quotas do
_SPARE = 32  # rows more than an engine's margin, since some drop out of small quotas too
_LOOKS_FOR_LABELS = 8  # quotas' worth of rows are searched at most for a label that is rare there


class ProfileMatcher(Matcher):
    """The nearest samples of each centroid, by inner product."""

    def __init__(self, view: PoolView, options: MatchOptions = PLAIN, engine: VectorIndex | None = None) -> None:
        """Choose from ``view``; by exact search unless another ``engine`` knows its vectors."""
        super().__init__(view, options)
        vectors = np.ascontiguousarray(view.vectors)
        self._engine = engine or ExactIndex(lambda: vectors)

    def rank(self, query: Query, asker: int | None) -> Rows:
        """See `Matcher.rank`; the centroids' choices are interleaved by their quotas."""
        if query.dimensions != self.view.vectors.shape[1]:
            raise MalformedMessageError(
                f"query: centroids of {query.dimensions} dimensions, the model's have {self.view.vectors.shape[1]}"
            )
        centroids, shares = query.profile(), quotas(query.weights, query.max_samples)
        counts = [min(int(_NEEDED * quota) + _SPARE // 4, len(self.view)) if quota else 0 for quota in shares]
        most = [max(self._first_look(quota), count) for quota, count in zip(shares, counts, strict=True)]
        near = [rows for rows, _ in self._engine.search_many(centroids, counts, self.view.allowed, most)]
        chosen: dict[int, int] = {}  # the row of each content
        priorities = []
        for centroid, quota, first, offered in zip(centroids, shares, near, self._offered(near, asker), strict=True):
            mine = _first_new(*offered, quota, chosen)
            if len(mine) < quota or self._picky:
                mine = self._nearest(centroid, quota, first, asker, chosen)
            chosen |= mine
            priorities.append((np.arange(len(mine)) + 0.5) / max(quota, 1))
        order = np.argsort(np.concatenate(priorities), kind="stable")
        return np.fromiter(chosen.values(), np.int64, len(chosen))[order]

    @property
    def _picky(self) -> bool:
        """Whether it takes more to be chosen than that one may leave the pool and is of new content."""
        return self._options.near_duplicate_similarity < 1 or self._options.min_label_share > 0

    def _offered(self, near: list[Rows], asker: int | None) -> Iterator[tuple[list[int], list[int]]]:
        """Of each centroid's ``near`` those that may go to the asker, each as its row and the key of its content.

        Of all centroids at once, and as plain numbers: a centroid has a dozen, which NumPy takes longer to begin with
        than to go through.
        """
        rows = np.concatenate(near)
        known = np.minimum(rows, len(self.view) - 1)  # the engine may know some that came since
        may = (rows == known) & self._may_leave(known, asker)
        ends = np.append(0, np.cumsum(may))[np.cumsum([0, *map(len, near)])].tolist()
        rows = rows[may]
        mine, keys = rows.tolist(), self.view.content_keys[rows].tolist()
        for begin, end in pairwise(ends):
            yield mine[begin:end], keys[begin:end]

    def _first_look(self, quota: int) -> int:
        """How many rows to ask for, of which some will be dropped."""
        return min(int(self._engine.margin * quota) + _SPARE, len(self.view)) if quota else 0

    def _nearest(
        self, centroid: NDArray[np.float32], quota: int, rows: Rows, asker: int | None, before: dict[int, int]
    ) -> dict[int, int]:
        """The admissible of ``rows``, the nearest; looks further until the quota is filled or the pool is exhausted.

        By the keys of their contents, none of which is among those chosen ``before``.
        """
        look, taken = self._first_look(quota), np.sort(np.array(list(before), np.int64))
        while look > 0:
            admissible = self._admissible(rows[rows < len(self.view)], asker, taken)
            chosen, complete = self._balanced(admissible, quota)
            if ((complete or look >= _LOOKS_FOR_LABELS * quota) and len(chosen) >= quota) or look == len(self.view):
                return dict(zip(self.view.content_keys[chosen].tolist(), chosen.tolist(), strict=True))
            look = min(4 * look, len(self.view))
            rows, _ = self._engine.search(centroid, look, self.view.allowed)
        return {}


def _first_new(rows: list[int], keys: list[int], quota: int, before: dict[int, int]) -> dict[int, int]:
    """Of rows in order, with their keys, the first ``quota`` whose key is new, by their keys."""
    mine = dict(zip(keys[:quota], rows[:quota], strict=True))
    if len(mine) == quota and before.keys().isdisjoint(mine):
        return mine
    mine = {}
    for row, key in zip(rows, keys, strict=True):
        if len(mine) == quota:
            break
        if key not in before:
            mine.setdefault(key, row)
    return mine
