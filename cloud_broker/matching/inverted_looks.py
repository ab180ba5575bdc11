"""How far an inverted file has to be looked through to find enough: measured on its own vectors when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from cloud_broker.matching.codebooks import Floats
from cloud_broker.matching.inverted_current import Current
from cloud_broker.matching.inverted_search import Opened
from cloud_broker.matching.vector_index import Vectors

_faiss: Any = faiss  # its stubs tell of the C++ interface
_JUDGED_BY = 32  # queries of each kind
_AT_ONCE = 8  # as many as a profile has by default
_JUDGED_NEAREST = (100, 300, 1_000)
_RUN = 16  # consecutive rows, which are mostly of one contributor
# How many times as many vectors are compared, and the share of the nearest that lists are expected to have.
_TIMES = (3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)
_REACHES = (0.8, 0.85, 0.9, 0.925, 0.95, 0.965, 0.975, 0.98, 0.985, 0.99, 0.995, 0.998, 0.9999)
_KEPT_BACK = 0.1  # of what may be missed: those who ask are not in the pool, and find less than its own rows do
_OF_CODES = 0.4  # share of what may be missed that is left to the codes; the rest is the lists'

Looks = tuple[tuple[int, float, float], ...]


def enough(opened: Opened, vectors: Vectors, wanted: float) -> tuple[Looks, float]:
    """The least looks that find ``wanted`` of what exact search finds, by how many are asked for; and what they find.

    A device's query is the mean of some of its samples, none of which are in the pool. So queries are means of some
    rows of one contributor, and midpoints of two such means.
    """
    queries = _queries(vectors)
    most = min(_JUDGED_NEAREST[-1], len(vectors))
    exact = _faiss.knn(queries, vectors, most, metric=_faiss.METRIC_INNER_PRODUCT)[0]
    chosen, least, wanted = [], 1.0, 1 - (1 - wanted) * (1 - _KEPT_BACK)
    for count in sorted({min(count, most) for count in _JUDGED_NEAREST}):
        recalls = _Recalls(opened, vectors, queries, exact[:, count - 1], count)
        # Lists that have all but few of the nearest tell of the codes what all lists would.
        codes = 1 - (1 - wanted) * _OF_CODES
        times = next((times for times in _TIMES if recalls.of(_REACHES[-1], times) >= codes), len(vectors) / count)
        reach = next((reach for reach in _REACHES if recalls.of(reach, times) >= wanted), 1.0)
        chosen.append((count, reach, float(times)))
        least = min(least, recalls.of(reach, times))
    return tuple(chosen), least


def _queries(vectors: Vectors) -> Vectors:
    """Means of 1, 4 and 16 consecutive rows, mostly of one contributor, and midpoints of the last, [4 n, d]."""
    begins = np.random.default_rng(1).choice(max(len(vectors) - _RUN, 1), min(_JUDGED_BY, len(vectors)))
    runs = np.stack([vectors[begin : begin + _RUN] for begin in begins])
    means = [runs[:, :some].mean(axis=1) for some in (1, 4, _RUN)]
    return np.ascontiguousarray(np.concatenate([*means, (means[-1] + np.roll(means[-1], 1, axis=0)) / 2]))


@dataclass(frozen=True)
class _Recalls:
    """What is found of the ``count`` nearest of some queries; ``least`` [n] are the scores of the last of them."""

    opened: Opened
    vectors: Vectors
    queries: Vectors
    least: Floats
    count: int

    def of(self, reach: float, times: float) -> float:
        """By score, not by row: of rows with equal vectors any is as good."""
        self.opened.current = Current("", self.opened.current.rows, ((self.count, reach, times),), 0.0)
        reached = 0
        for begin in range(0, len(self.queries), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            asked = self.queries[some]
            found = self.opened.search_many(asked, [self.count] * len(asked), None, self.vectors)
            reached += sum(
                int((pair[1] >= least - 1e-6).sum()) for pair, least in zip(found, self.least[some], strict=True)
            )
        return reached / (self.count * len(self.queries))
