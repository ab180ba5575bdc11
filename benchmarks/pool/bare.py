"""Bare faiss on the engine's own file: no filters, no profiles; what the engine's time is compared with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.fast_scan import scan
from cloud_broker.matching.inverted_search import Opened

RECALL = 0.98
_ASKED_FOR = 1.06, 8  # times a quota and rows more: as many as the engine asks for, some of which it may have to drop
_TINY = 1e-6  # below which scores are equal
Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Bare:
    """Faiss by itself over a file and the vectors [n, d] of all rows: lists, codes, vectors, the best of them."""

    opened: Opened
    vectors: Any

    def search(self, centroids: Floats, counts: Counts, probes: int) -> Floats:
        """The scores of ``counts`` rows near each of the centroids [m, d], [m, most], in no order."""
        asked = counts * _ASKED_FOR[0] + _ASKED_FOR[1]
        candidates = int(np.ceil(asked * self.opened.current.looks_for(asked)[1]).max())
        near, lists = faiss.knn(centroids, self.opened.books.centres, probes, metric=faiss.METRIC_INNER_PRODUCT)
        # Erased rows have a code that is near to some: without this they would take others' places.
        live = faiss.IDSelectorRange(0, self.opened.current.rows)
        ids = scan(self.opened.index, centroids, lists, near, candidates, selector=live)
        _, scores = self.opened.compared(centroids, ids, self.vectors)
        most = int(counts.max())
        return np.partition(scores, scores.shape[1] - most, axis=1)[:, -most:]

    def seconds(self, centroids: Floats, counts: Counts, probes: int) -> float:
        """What `search` takes on one thread."""
        faiss.omp_set_num_threads(1)
        started_s = time.perf_counter()
        self.search(centroids, counts, probes)
        return time.perf_counter() - started_s

    def as_many_lists(self, centroids: Floats, counts: Counts) -> int:
        """As many lists for each centroid as the engine looks through on average, for those where it does."""
        by_lists = self.opened.by_lists(centroids)
        if not by_lists.any():
            return 1
        lists, _ = self.opened.chosen_lists(centroids[by_lists], counts[by_lists])
        return max(int((lists >= 0).sum() / np.count_nonzero(by_lists)), 1)

    def finding_as_much(self, asked: list[tuple[Floats, Counts]]) -> int | None:
        """The fewest lists, the same for all questions, in which it finds `RECALL` on average; None if all are too few.

        To a quarter, by trying: 1, 2, 3, 4, 5, 6, 8, 10, 12, 16 and so on.
        """
        exact = [
            faiss.knn(one, self.vectors, int(counts.max()), faiss.METRIC_INNER_PRODUCT)[0] for one, counts in asked
        ]
        least = [scores[np.arange(len(counts)), counts - 1] for scores, (_, counts) in zip(exact, asked, strict=True)]
        lists = len(self.opened.books)
        tried = sorted({min(max(quarter << power >> 2, 1), lists) for power in range(24) for quarter in (4, 5, 6)})
        # Not by halves: more lists now and then find less, since codes that are near by chance are among them.
        return next((probes for probes in tried if self._recall(asked, least, probes) >= RECALL), None)

    def _recall(self, asked: list[tuple[Floats, Counts]], least: list[Floats], probes: int) -> float:
        """By score, not by row: of samples as near as each other any is as good."""
        shares = []
        for (centroids, counts), scores in zip(asked, least, strict=True):
            near = self.search(centroids, counts, probes) >= scores[:, np.newaxis] - _TINY
            shares.append(np.minimum(near.sum(axis=1), counts).sum() / counts.sum())
        return float(np.mean(shares))
