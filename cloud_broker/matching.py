"""Coarse matching: which of the pool's samples suit a device, by the profile that it sends.

A profile is a few centroids of the device's own sample vectors and the share of its samples near each. A centroid gets
as many of the pool's samples as its share says, the nearest ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.byte_budget import affordable
from cloud_broker.pool_columns import FORGOTTEN
from protocol.batch_codec import MAX_SAMPLES, encode_batch
from protocol.errors import MalformedMessageError
from protocol.messages import Query
from protocol.samples import SampleBatch

Rows = NDArray[np.int64]
# Encoded size grows a little slower than the number of samples, so a cut in proportion lands just under the bound.
_CUT_MARGIN = 0.98


@dataclass(frozen=True)
class PoolView:
    """What a matcher knows of the pool's samples, by row.

    Attributes:
        vectors: float32 [n, d], as `protocol.vectors.sample_vectors` joins them.
        contributors: int32 [n], numbers of the contributors.
        content_keys: int64 [n], equal for samples of equal features and label.
    """

    vectors: NDArray[np.float32]
    contributors: NDArray[np.int32]
    content_keys: NDArray[np.int64]

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

    def __init__(self, view: PoolView) -> None:
        self.view = view

    @abstractmethod
    def rank(self, query: Query, asker: int | None) -> Rows:
        """Rows that suit the query, in an order of which every beginning is a good choice too.

        Args:
            query: Its profile and ``max_samples``.
            asker: The device's number as a contributor, whose own samples are left out; None if it gave none.

        Returns:
            Distinct rows, at most ``max_samples``, no two of equal content; the same for the same query.

        Raises:
            MalformedMessageError: If the profile is of another space than the pool's vectors.
        """

    def _admissible(self, rows: Rows, asker: int | None, taken: set[int]) -> Rows:
        """Of ``rows``, in order: neither forgotten nor the asker's, and no content in ``taken`` or twice."""
        rows = rows[self.view.contributors[rows] != FORGOTTEN]
        if asker is not None:
            rows = rows[self.view.contributors[rows] != asker]
        keys = self.view.content_keys[rows]
        _, first = np.unique(keys, return_index=True)
        first.sort()
        fresh = [index for index in first.tolist() if int(keys[index]) not in taken]
        return rows[fresh]


class ProfileMatcher(Matcher):
    """The nearest samples of each centroid, by inner product, exactly (faiss, one thread a query)."""

    def __init__(self, view: PoolView) -> None:
        super().__init__(view)
        self._index = faiss.IndexFlatIP(view.vectors.shape[1])
        self._index.add(np.ascontiguousarray(view.vectors))

    def rank(self, query: Query, asker: int | None) -> Rows:
        """See `Matcher.rank`; the centroids' choices are interleaved by their quotas."""
        if query.dimensions != self.view.vectors.shape[1]:
            raise MalformedMessageError(
                f"query: centroids of {query.dimensions} dimensions, the model's have {self.view.vectors.shape[1]}"
            )
        # OpenMP counts threads per caller, so each worker thread says so for itself.
        faiss.omp_set_num_threads(1)
        taken: set[int] = set()
        chosen, priorities = [], []
        for centroid, quota in zip(query.profile(), quotas(query.weights, query.max_samples), strict=True):
            rows = self._nearest(centroid, quota, asker, taken)
            taken.update(self.view.content_keys[rows].tolist())
            chosen.append(rows)
            priorities.append((np.arange(len(rows)) + 0.5) / max(quota, 1))
        order = np.argsort(np.concatenate(priorities), kind="stable")
        return np.concatenate(chosen)[order]

    def _nearest(self, centroid: NDArray[np.float32], quota: int, asker: int | None, taken: set[int]) -> Rows:
        """The nearest admissible rows; looks further until the quota is filled or the pool is exhausted."""
        look = min(2 * quota, len(self.view))
        while look > 0:
            scores, found = self._index.search(centroid[np.newaxis], look)
            # Equal scores in the order of rows, so that the choice does not hang on faiss' internals.
            rows = found[0][np.lexsort((found[0], -scores[0]))]
            admissible = self._admissible(rows, asker, taken)
            if len(admissible) >= quota or look == len(self.view):
                return admissible[:quota]
            look = min(4 * look, len(self.view))
        return np.zeros(0, np.int64)


class RandomMatcher(Matcher):
    """Samples drawn evenly from the pool: the control that any matcher has to beat."""

    def __init__(self, view: PoolView, seed: int = 1) -> None:
        super().__init__(view)
        self._seed = seed

    def rank(self, query: Query, asker: int | None) -> Rows:
        """See `Matcher.rank`; the profile seeds the draw and counts for nothing else."""
        rng = np.random.default_rng([self._seed, *query.centroids])
        shuffled = rng.permutation(len(self.view)).astype(np.int64)
        return self._admissible(shuffled, asker, set())[: query.max_samples]


def quotas(weights: tuple[float, ...], total: int) -> list[int]:
    """Share ``total`` by ``weights`` (summing to 1): whole numbers that sum to ``total``, by largest remainder."""
    exact = np.asarray(weights) / sum(weights) * total
    shares = np.floor(exact).astype(np.int64)
    left = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:left]] += 1
    numbers: list[int] = shares.tolist()
    return numbers


def encode_within(
    take: Callable[[Rows], SampleBatch], ranked: Rows, max_bytes: int, *, zstd: bool = True
) -> tuple[Rows, bytes]:
    """Encode the rows, all if they fit; else as many as do, near and cheap ones before far and dear ones.

    Args:
        take: Gives the samples of rows.
        ranked: Rows, the most wanted first.
        max_bytes: Bound on the encoded bytes.
        zstd: Whether the reader has zstd.

    Returns:
        The rows encoded, ascending, and the bytes, in which the samples are in whatever order is smallest. No rows and
        no bytes if not even one sample fits.
    """
    ranked = ranked[:MAX_SAMPLES]
    count, chosen = len(ranked), None
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
