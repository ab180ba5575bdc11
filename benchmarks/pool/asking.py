"""How long matching takes, beside bare faiss, and what it finds of what exact search would."""

from __future__ import annotations

import time
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.pool.bare import Bare
from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.inverted_file import InvertedFileIndex
from cloud_broker.matching.matcher import quotas
from cloud_broker.matching.profile_matching import ProfileMatcher
from edge.learning.profile import k_means
from protocol.messages import Query
from protocol.samples import SampleBatch

NEAREST = 1000
WARM_UP = 20
RECALLED = 60  # queries that exact search answers too: each user who asks, once
_TINY = 1e-6  # below which scores are equal


@dataclass(frozen=True)
class Asked:
    """How queries of one form fared.

    Attributes:
        form: What was asked.
        p50_ms: Median of the matcher's time.
        p99_ms: Its 99th percentile.
        bare_p50_ms: The median of bare faiss: the same lists' codes and vectors, no filters, and as many lists as the
            engine looks through without them.
        ratio: Median over queries of matcher to bare.
        equal_p50_ms: The median of bare faiss in as many lists, the same for all queries, as it takes to find 0.98; NaN
            where it finds less in all lists.
        equal_ratio: Median over queries of matcher to that.
        recall: Mean share of what the matcher sends that is as near as what it would send by exact search.
        recall_p5: The share that 95 in 100 queries reach.
        recall_least: The share of the query that fares worst.
    """

    form: str
    p50_ms: float
    p99_ms: float
    bare_p50_ms: float
    ratio: float
    equal_p50_ms: float
    equal_ratio: float
    recall: float
    recall_p5: float
    recall_least: float


def queries(askers: list[SampleBatch], index: SampleIndex, centroids: int, count: int) -> list[Query]:
    """Profiles of users who are not in the pool, each from another part of their samples."""
    rng, asked = np.random.default_rng(1), []
    vectors = [index._embedder.vectors(batch) for batch in askers]
    for number in range(count):
        mine = vectors[number % len(vectors)]
        some = mine[rng.choice(len(mine), min(len(mine), 100), replace=False)]
        found, mine_of = k_means(some, centroids, rng)
        weights = np.bincount(mine_of, minlength=len(found)) / len(some)
        raw = found.astype("<f2").tobytes()
        ask = (f"q{number}", 1, index.model_sha256, found.shape[1], raw, tuple(weights.tolist()), NEAREST, 1 << 24)
        asked.append(Query(*ask))
    return asked


def ask(index: SampleIndex, asked: list[Query], form: str) -> Asked:
    """Time the matcher and bare faiss in turns, and compare with exact search."""
    index.refresh()
    rng = np.random.default_rng(1)
    owners = [int(number) for number in rng.choice(np.unique(index.pool.contributors), len(asked))]
    beside = _Beside(index, asked)
    ours, bare = np.zeros(len(asked)), np.zeros((len(asked), 2))
    for number, (query, owner) in enumerate(zip(asked, owners, strict=True)):
        started_s = time.perf_counter()
        index.matcher().rank(query, owner)
        ours[number] = time.perf_counter() - started_s
        bare[number] = beside.seconds(query)
    recalls = [_recall(index, query, owner) for query, owner in zip(asked[:RECALLED], owners, strict=False)]
    return summary(form, ours, bare, np.array(recalls))


def summary(
    form: str,
    ours_s: NDArray[np.float64],
    bare_s: NDArray[np.float64],
    recalls: NDArray[np.float64],
) -> Asked:
    """Figures of queries in the order in which they were asked; the first ones only warm up.

    Args:
        form: What was asked.
        ours_s: float64 [queries].
        bare_s: float64 [queries, 2], in as many lists, and finding as much.
        recalls: float64 [some].
    """
    ours_ms, bare_ms = ours_s[WARM_UP:] * 1e3, bare_s[WARM_UP:] * 1e3
    p50_ms, p99_ms = (float(value) for value in np.percentile(ours_ms, [50, 99]))
    (bare, equal), (ratio, equal_ratio) = (
        np.median(figures, axis=0).tolist() for figures in (bare_ms, ours_ms[:, np.newaxis] / bare_ms)
    )
    found = (float(recalls.mean()), float(np.percentile(recalls, 5)), float(recalls.min()))
    return Asked(form, p50_ms, p99_ms, bare, ratio, equal, equal_ratio, *found)


class _Beside:
    """What the matcher is timed beside: bare faiss on its file, or where there is none exact search by it."""

    def __init__(self, index: SampleIndex, asked: list[Query]) -> None:
        self._engine, self._vectors = index.engine, index.matcher().view.vectors
        if isinstance(self._engine, InvertedFileIndex):
            self._bare = Bare(self._engine.opened, self._vectors)
            self._probes = self._bare.finding_as_much([wanted(query) for query in asked[:RECALLED]])

    def seconds(self, query: Query) -> tuple[float, float]:
        """In as many lists, and finding as much."""
        centroids, counts = wanted(query)
        if isinstance(self._engine, InvertedFileIndex):
            few = self._bare.seconds(centroids, counts, self._bare.as_many_lists(centroids, counts))
            return few, self._bare.seconds(centroids, counts, self._probes) if self._probes else np.nan
        faiss.omp_set_num_threads(1)
        started_s = time.perf_counter()
        for centroid, count in zip(centroids, counts.tolist(), strict=True):
            faiss.knn(centroid[np.newaxis], self._vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        return (time.perf_counter() - started_s,) * 2


def _recall(index: SampleIndex, query: Query, owner: int) -> float:
    """Share of what the matcher sends for each centroid that is as near as the last that it would send by exact search.

    By score, not by row: of samples as near as each other any is as good.
    """
    matcher = index.matcher()
    centroids, counts = wanted(query)
    mine = matcher.rank(query, owner)
    right = ProfileMatcher(matcher.view, index._options).rank(query, owner)
    if not len(mine) == len(right) == counts.sum():
        raise AssertionError(f"{len(mine)} and {len(right)} samples for {counts.sum()}")
    # The matcher interleaves the centroids' choices by their quotas, which here are all filled.
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    whose = np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind="stable")]
    reached = 0
    for number, centroid in enumerate(centroids):
        least = (matcher.view.vectors[right[whose == number]] @ centroid).min() - _TINY
        reached += int((matcher.view.vectors[mine[whose == number]] @ centroid >= least).sum())
    return reached / len(mine)


def wanted(query: Query) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Its centroids [m, d] and how many rows each asks for, [m]."""
    counts = np.array(quotas(query.weights, query.max_samples))
    return np.ascontiguousarray(query.profile()[counts > 0]), counts[counts > 0]
