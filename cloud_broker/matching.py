"""Coarse matching: which of the pool's samples suit a device, by the profile that it sends.

A profile is a few centroids of the device's own sample vectors and the share of its samples near each. A centroid gets
as many of the pool's samples as its share says, the nearest ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_broker.byte_budget import affordable
from cloud_broker.match_options import PLAIN, MatchOptions
from cloud_broker.pool_columns import FORGOTTEN
from cloud_broker.vector_index import Allowed, ExactIndex, Rows, VectorIndex
from protocol.batch_codec import MAX_SAMPLES, encode_batch, encode_plain
from protocol.errors import MalformedMessageError
from protocol.messages import Query
from protocol.samples import SampleBatch

__all__ = ["Matcher", "PoolView", "ProfileMatcher", "RandomMatcher", "Rows", "encode_within", "quotas"]

_LOOKS_FOR_LABELS = 8  # quotas' worth of rows are searched at most for a label that is rare there
# Encoded size grows a little slower than the number of samples, so a cut in proportion lands just under the bound.
_CUT_MARGIN = 0.98


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
        allowed: Most of the rows that must not be matched are not in it; None if these are few.
    """

    vectors: NDArray[np.float32]
    contributors: NDArray[np.int32]
    content_keys: NDArray[np.int64]
    items: NDArray[np.int32] | None = None
    labels: NDArray[np.float32] | None = None
    sharers: NDArray[np.int32] | None = None
    time_s: NDArray[np.int64] | None = None
    since_s: float | None = None
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
        rows = _once(rows, self.view.content_keys[rows], taken)
        least = self._options.near_duplicate_similarity
        return rows if least == 1 else rows[~_near_duplicates(rows, self.view, least)]

    def _may_leave(self, rows: Rows, asker: int | None) -> NDArray[np.bool_]:
        """Neither forgotten nor the asker's nor too old, and of an item that enough contributors share."""
        view, k = self.view, self._options.k_anonymity
        owners = view.contributors[rows]
        may: NDArray[np.bool_] = owners != FORGOTTEN
        if asker is not None:
            may &= owners != asker
        if k > 1:
            assert view.sharers is not None
            assert view.items is not None
            may &= view.sharers[view.items[rows]] >= k
        if view.since_s is not None:
            assert view.time_s is not None
            may &= view.time_s[rows] >= view.since_s
        return may


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
        for centroid, quota in zip(query.profile(), quotas(query.weights, query.max_samples), strict=True):
            rows = self._nearest(centroid, quota, asker, taken)
            taken = np.sort(np.concatenate([taken, self.view.content_keys[rows]]))
            chosen.append(rows)
            priorities.append((np.arange(len(rows)) + 0.5) / max(quota, 1))
        order = np.argsort(np.concatenate(priorities), kind="stable")
        return np.concatenate(chosen)[order]

    def _nearest(self, centroid: NDArray[np.float32], quota: int, asker: int | None, taken: NDArray[np.int64]) -> Rows:
        """The nearest admissible rows; looks further until the quota is filled or the pool is exhausted."""
        look = min(int(self._engine.margin * quota) + (quota > 0), len(self.view))
        while look > 0:
            rows, _ = self._engine.search(centroid, look, self.view.allowed)
            admissible = self._admissible(rows[rows < len(self.view)], asker, taken)
            chosen, complete = self._balanced(admissible, quota)
            if ((complete or look >= _LOOKS_FOR_LABELS * quota) and len(chosen) >= quota) or look == len(self.view):
                return chosen
            look = min(4 * look, len(self.view))
        return np.zeros(0, np.int64)

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


def _once(rows: Rows, keys: NDArray[np.int64], taken: NDArray[np.int64]) -> Rows:
    """Of ``rows``, in order, the first of each key, but none whose key is in ``taken`` (ascending)."""
    if len(taken):
        at = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        rows, keys = rows[taken[at] != keys], keys[taken[at] != keys]
    in_order = np.sort(keys)
    if (in_order[1:] == in_order[:-1]).any():
        rows = rows[np.sort(np.unique(keys, return_index=True)[1])]
    return rows


def _near_duplicates(rows: Rows, view: PoolView, least: float) -> NDArray[np.bool_]:
    """Which rows are of the item and label of an earlier one and hardly differ from it, [n]."""
    assert view.items is not None
    assert view.labels is not None
    vectors = view.vectors[rows]
    what = view.items[rows].astype(np.int64) * 2 + (view.labels[rows] > 0)
    # Alike vectors have alike projections, whatever they are projected on, so they are neighbours in this order.
    order = np.lexsort((np.arange(len(rows)), vectors.sum(axis=1), what))
    what, vectors = what[order], vectors[order]
    squares = np.einsum("ij,ij->i", vectors, vectors)
    alike = np.einsum("ij,ij->i", vectors[1:], vectors[:-1]) >= least * np.sqrt(squares[1:] * squares[:-1])
    same = alike & (what[1:] == what[:-1])
    # Of each run of such neighbours the first in rank stays.
    run = np.cumsum(np.append(True, ~same)[: len(rows)])
    first = np.full(len(rows) + 1, len(rows))
    np.minimum.at(first, run, order)
    twin = np.empty(len(rows), np.bool_)
    twin[order] = first[run] != order
    return twin


def quotas(weights: tuple[float, ...], total: int) -> list[int]:
    """Share ``total`` by ``weights`` (summing to 1): whole numbers that sum to ``total``, by largest remainder."""
    exact = np.asarray(weights) / sum(weights) * total
    shares = np.floor(exact).astype(np.int64)
    left = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:left]] += 1
    numbers: list[int] = shares.tolist()
    return numbers


def encode_within(
    take: Callable[[Rows], SampleBatch], ranked: Rows, max_bytes: int, *, zstd: bool = True, quick: bool = False
) -> tuple[Rows, bytes]:
    """Encode the rows, all if they fit; else as many as do, near and cheap ones before far and dear ones.

    Args:
        take: Gives the samples of rows.
        ranked: Rows, the most wanted first.
        max_bytes: Bound on the encoded bytes.
        zstd: Whether the reader has zstd.
        quick: Where all fit as plain columns, leave it at that: a fifth to a half more bytes for a tenth of the time.

    Returns:
        The rows encoded, ascending, and the bytes, in which the samples are in whatever order is smallest. No rows and
        no bytes if not even one sample fits.
    """
    ranked = ranked[:MAX_SAMPLES]
    count, chosen = len(ranked), None
    if quick and count:
        rows = np.sort(ranked)
        payload = encode_plain(take(rows), zstd=zstd)
        if len(payload) <= max_bytes:
            return rows, payload
    while count > 0:
        rows = np.sort(ranked[:count])
        payload = encode_batch(take(rows), zstd=zstd, keep_order=False)
        if len(payload) <= max_bytes:
            return rows, payload
        if chosen is None:
            chosen = affordable(take(ranked), len(payload), max_bytes)
            ranked, count = ranked[chosen], len(chosen)
        else:
            count = min(count - 1, int(count * max_bytes / len(payload) * _CUT_MARGIN))
    return ranked[:0], b""
