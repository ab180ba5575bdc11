"""Matching by profile: the pool's samples nearest to what a device's own are like.

A profile is a few centroids of the device's own sample vectors and the share of its samples near each. A centroid gets
as many of the pool's samples as its share says, the nearest ones.
"""

from __future__ import annotations

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
        taken = np.zeros(0, np.int64)
        chosen, priorities = [], []
        centroids, shares = query.profile(), quotas(query.weights, query.max_samples)
        counts = [min(int(_NEEDED * quota) + _SPARE // 4, len(self.view)) if quota else 0 for quota in shares]
        most = [max(self._first_look(quota), count) for quota, count in zip(shares, counts, strict=True)]
        near = self._engine.search_many(centroids, counts, self.view.allowed, most)
        for centroid, quota, (first, _) in zip(centroids, shares, near, strict=True):
            rows = self._nearest(centroid, quota, first, asker, taken)
            taken = np.sort(np.concatenate([taken, self.view.content_keys[rows]]))
            chosen.append(rows)
            priorities.append((np.arange(len(rows)) + 0.5) / max(quota, 1))
        order = np.argsort(np.concatenate(priorities), kind="stable")
        return np.concatenate(chosen)[order]

    def _first_look(self, quota: int) -> int:
        """How many rows to ask for, of which some will be dropped."""
        return min(int(self._engine.margin * quota) + _SPARE, len(self.view)) if quota else 0

    def _nearest(
        self, centroid: NDArray[np.float32], quota: int, rows: Rows, asker: int | None, taken: NDArray[np.int64]
    ) -> Rows:
        """The admissible of ``rows``, the nearest; looks further until the quota is filled or the pool is exhausted."""
        look = self._first_look(quota)
        while look > 0:
            admissible = self._admissible(rows[rows < len(self.view)], asker, taken)
            chosen, complete = self._balanced(admissible, quota)
            if ((complete or look >= _LOOKS_FOR_LABELS * quota) and len(chosen) >= quota) or look == len(self.view):
                return chosen
            look = min(4 * look, len(self.view))
            rows, _ = self._engine.search(centroid, look, self.view.allowed)
        return np.zeros(0, np.int64)
