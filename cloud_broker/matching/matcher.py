"""Coarse matching: which of the pool's samples suit a device. What a matcher knows and promises, and the control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.filters import near_duplicates, once
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import PLAIN, MatchOptions
from cloud_broker.matching.vector_index import Allowed, Rows
from cloud_broker.pool.columns import FORGOTTEN
from protocol.messages import Query

__all__ = ["Matcher", "PoolView", "RandomMatcher", "Rows", "quotas"]


@dataclass(frozen=True)
class PoolView:
    """What a matcher knows of the pool's samples, by row.

    Attributes:
        vectors: float32 [n, d], as `protocol.vectors.sample_vectors` joins them.
        contributors: int32 [n], numbers of the contributors.
        content_keys: int64 [n], equal for samples of equal features and label.
        items: int32 [n]; needed where k-anonymity or near duplicates count.
        labels: float32 [n]; needed where labels or near duplicates count.
        sharers: int32 [items], how many contributors have samples of each item; needed where k-anonymity counts.
        time_s: int64 [n], when it happened; needed where there is a window.
        since_s: What happened before is not matched.
        opinions: Who has an opinion of which item; needed where agreement counts.
        agreeing: bool [contributors], who allows that; everybody if None.
        allowed: Most of the rows that must not be matched are not in it, none that was too old when it was made, some
            seconds ago; None if these are few.
    """

    vectors: NDArray[np.float32]
    contributors: NDArray[np.int32]
    content_keys: NDArray[np.int64]
    items: NDArray[np.int32] | None = None
    labels: NDArray[np.float32] | None = None
    sharers: NDArray[np.int32] | None = None
    time_s: NDArray[np.int64] | None = None
    since_s: float | None = None
    opinions: Opinions | None = None
    agreeing: NDArray[np.bool_] | None = None
    allowed: Allowed | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or not len(self.vectors) == len(self.contributors) == len(self.content_keys):
            raise ValueError(
                f"one vector, contributor and key a sample, got {self.vectors.shape}, "
                f"{self.contributors.shape} and {self.content_keys.shape}"
            )

    def __len__(self) -> int:
        return len(self.contributors)


class Matcher(ABC):
    """Chooses samples of a pool for a query. Immutable, so any number of threads may ask at once.

    Attributes:
        view: The pool that it chooses from.
    """

    def __init__(self, view: PoolView, options: MatchOptions = PLAIN) -> None:
        self.view = view
        self._options = options

    @abstractmethod
    def rank(self, query: Query, asker: int | None) -> Rows:
        """Rows that suit the query, in an order of which every beginning is a good choice too.

        Args:
            query: Its profile and ``max_samples``.
            asker: The device's number as a contributor, whose own samples are left out; None if it gave none.

        Returns:
            Distinct rows, at most ``max_samples``, no two of equal content, none that the options hold back; the same
            for the same query.

        Raises:
            MalformedMessageError: If the profile is of another space than the pool's vectors.
        """

    def _admissible(self, rows: Rows, asker: int | None, taken: NDArray[np.int64]) -> Rows:
        """Of ``rows``, in order: those that may go to the asker, no content in ``taken`` (ascending) or twice."""
        rows = rows[self._may_leave(rows, asker)]
        rows = once(rows, self.view.content_keys[rows], taken)
        least = self._options.near_duplicate_similarity
        if least == 1:
            return rows
        assert self.view.items is not None
        assert self.view.labels is not None
        what = self.view.items[rows].astype(np.int64) * 2 + (self.view.labels[rows] > 0)
        return rows[~near_duplicates(self.view.vectors[rows], what, least)]

    def _may_leave(self, rows: Rows, asker: int | None, *, recent: bool = False) -> NDArray[np.bool_]:
        """Neither forgotten nor the asker's nor too old, and of an item that enough contributors share.

        Not looking at the time where all are known to be ``recent``.
        """
        view, k = self.view, self._options.k_anonymity
        owners = view.contributors[rows]
        may: NDArray[np.bool_] = owners != FORGOTTEN
        if asker is not None:
            may &= owners != asker
        if k > 1:
            assert view.sharers is not None
            assert view.items is not None
            may &= view.sharers[view.items[rows]] >= k
        if view.since_s is not None and not recent:
            assert view.time_s is not None
            may &= view.time_s[rows] >= view.since_s
        return may

    def _balanced(self, rows: Rows, quota: int) -> tuple[Rows, bool]:
        """The first ``quota`` of rows, later ones of a label in place of the last where it has too small a share.

        Also whether both labels have their share.
        """
        share = self._options.min_label_share
        if share == 0:
            return rows[:quota], True
        assert self.view.labels is not None
        liked, least = self.view.labels[rows] > 0, int(np.ceil(share * min(quota, len(rows))))
        chosen = np.arange(len(rows)) < quota
        for label in (liked, ~liked):
            missing = least - int((label & chosen).sum())
            more = np.flatnonzero(label & ~chosen)[: max(missing, 0)]
            chosen[np.flatnonzero(chosen & ~label)[::-1][: len(more)]] = False
            chosen[more] = True
        complete = all(int((label & chosen).sum()) >= least for label in (liked, ~liked))
        return rows[chosen], complete


class RandomMatcher(Matcher):
    """Samples drawn evenly from the pool: the control that any matcher has to beat."""

    def __init__(self, view: PoolView, options: MatchOptions = PLAIN, seed: int = 1) -> None:
        super().__init__(view, options)
        self._seed = seed

    def rank(self, query: Query, asker: int | None) -> Rows:
        """See `Matcher.rank`; the profile seeds the draw and counts for nothing else."""
        rng = np.random.default_rng([self._seed, *query.centroids])
        shuffled = rng.permutation(len(self.view)).astype(np.int64)
        return self._admissible(shuffled, asker, np.zeros(0, np.int64))[: query.max_samples]


def quotas(weights: tuple[float, ...], total: int) -> list[int]:
    """Share ``total`` by ``weights`` (summing to 1): whole numbers that sum to ``total``, by largest remainder."""
    whole = sum(weights)
    exact = [weight / whole * total for weight in weights]
    shares = [int(share) for share in exact]
    left = total - sum(shares)
    for place in sorted(range(len(exact)), key=lambda place: shares[place] - exact[place])[:left]:
        shares[place] += 1
    return shares
