"""Matching by profile: the pool's samples nearest to what a device's own are like.

A profile is a few centroids of the device's own sample vectors and the share of its samples near each. A centroid gets
as many of the pool's samples as its share says, the nearest ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.filters import first_of_each
from cloud_broker.matching.matcher import Matcher, PoolView, quotas
from cloud_broker.matching.options import PLAIN, MatchOptions
from cloud_broker.matching.vector_index import ExactIndex, Rows, VectorIndex
from protocol.errors import MalformedMessageError
from protocol.messages import Query

_NEEDED, _NEEDED_MORE = 1.06, 8  # times a quota, and rows, that fill it where few drop out, as half of the quotas do
_LEAST_SPARE, _SPARE = 16, 80  # rows more than an engine's margin: of a small quota a larger share may drop out
_FURTHER = 4  # times as many rows where these were not enough
_LOOKS_FOR_LABELS = 8  # quotas' worth of rows are searched at most for a label that is rare there


@dataclass(frozen=True)
class _Offers:
    """Rows [n] that may be sent, the nearest of each centroid first, and the keys [n] of their contents.

    Those of centroid i are from ``ends[i]`` to ``ends[i + 1]``.
    """

    rows: Rows
    keys: NDArray[np.int64]
    ends: NDArray[np.int64]

    def taken(self, quotas: NDArray[np.int64]) -> tuple[Rows, NDArray[np.bool_]]:
        """What is sent if each centroid in turn takes its quota of what none before took, and no content twice.

        Interleaved by the quotas, [m]. Also which centroids were offered too little for theirs, [m].
        """
        first = first_of_each(self.keys)
        new = first == np.arange(len(first))
        so_far = np.append(0, np.cumsum(new))
        many, begins = np.diff(self.ends), so_far[self.ends[:-1]]
        quota, place = quotas.repeat(many), so_far[:-1] - begins.repeat(many)
        in_time = place < quota
        chosen = new & in_time
        if not chosen[first[in_time & ~new]].all():
            # Passed over for one that came too late itself. Whoever came too late here does so however that ends.
            return _Offers(self.rows[in_time], self.keys[in_time], _counted(in_time, self.ends)).taken(quotas)
        order = np.argsort((place[chosen] + 0.5) / quota[chosen], kind="stable")
        return self.rows[chosen][order], so_far[self.ends[1:]] - begins < quotas


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
        counts = [min(int(_NEEDED * quota) + _NEEDED_MORE, self._findable) if quota else 0 for quota in shares]
        looked = [max(self._first_look(quota), count) for quota, count in zip(shares, counts, strict=True)]
        near = [rows for rows, _ in self._engine.search_many(centroids, counts, self.view.allowed, looked)]
        if self._picky:
            return self._one_by_one(centroids, shares, near, asker)
        return self._together(centroids, np.array(shares), near, np.array(looked), asker)

    def _together(
        self,
        centroids: NDArray[np.float32],
        shares: NDArray[np.int64],
        near: list[Rows],
        looked: NDArray[np.int64],
        asker: int | None,
    ) -> Rows:
        """Chosen for all centroids at once; looks further for those that lack some, among all that can be found."""
        while True:
            rows, lacking = self._offers(near, asker).taken(shares)
            further = np.flatnonzero(lacking & (looked < self._findable))
            if not len(further):
                return rows
            looked[further] = np.minimum(_FURTHER * looked[further], self._findable)
            found = self._engine.search_many(centroids[further], looked[further].tolist(), self.view.allowed)
            for number, (mine, _) in zip(further.tolist(), found, strict=True):
                near[number] = mine

    def _one_by_one(
        self, centroids: NDArray[np.float32], shares: list[int], near: list[Rows], asker: int | None
    ) -> Rows:
        """Chosen for one centroid after another: what one may have depends on what those before have."""
        chosen: dict[int, int] = {}  # the row of each content
        priorities = []
        for centroid, quota, rows in zip(centroids, shares, near, strict=True):
            mine = self._nearest(centroid, quota, rows, asker, chosen)
            chosen |= mine
            priorities.append((np.arange(len(mine)) + 0.5) / max(quota, 1))
        order = np.argsort(np.concatenate(priorities), kind="stable")
        return np.fromiter(chosen.values(), np.int64, len(chosen))[order]

    @property
    def _findable(self) -> int:
        """How many rows a search can find at most."""
        allowed = self.view.allowed
        return len(self.view) if allowed is None else min(allowed.count, len(self.view))

    @property
    def _picky(self) -> bool:
        """Whether it takes more to be chosen than that one may leave the pool and is of new content."""
        return self._options.near_duplicate_similarity < 1 or self._options.min_label_share > 0

    def _offers(self, near: list[Rows], asker: int | None) -> _Offers:
        """Of each centroid's ``near`` those that may go to the asker; looked up for all centroids at once."""
        rows = np.concatenate(near)
        known = np.minimum(rows, len(self.view) - 1)  # the engine may know some that came since
        # What the engine finds where only some may be found was recent some seconds ago.
        may = (rows == known) & self._may_leave(known, asker, recent=self.view.allowed is not None)
        ends = _counted(may, np.cumsum([0, *map(len, near)]))
        rows = rows[may]
        return _Offers(rows, self.view.content_keys[rows], ends)

    def _first_look(self, quota: int) -> int:
        """How many rows to ask for, of which some will be dropped."""
        spare = min(_LEAST_SPARE + quota, _SPARE)
        return min(int(self._engine.margin * quota) + spare, self._findable) if quota else 0

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
            if ((complete or look >= _LOOKS_FOR_LABELS * quota) and len(chosen) >= quota) or look >= self._findable:
                return dict(zip(self.view.content_keys[chosen].tolist(), chosen.tolist(), strict=True))
            look = min(_FURTHER * look, self._findable)
            rows, _ = self._engine.search(centroid, look, self.view.allowed)
        return {}


def _counted(kept: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places among [n] as places among those that are kept."""
    counted: NDArray[np.int64] = np.append(0, np.cumsum(kept))[ends]
    return counted
