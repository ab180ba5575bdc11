"""The engine alone over synthetic vectors: what benchmarks of indices commonly use."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pool.asking import NEAREST, RECALLED, WARM_UP, Asked, summary
from benchmarks.pool.bare import Bare
from cloud_broker.matching import inverted_build
from cloud_broker.matching.inverted_file import InvertedFileIndex
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.vector_index import Allowed, nearest

_QUERIES = 200
_WIDTH = 32


def ask_clusters(rows: int, folder: Path) -> Asked:
    """The engine over vectors, half of them within a window; queries lie between clusters' members."""
    vectors, half = clusters(rows, _WIDTH), Allowed(np.arange(rows) >= rows // 2)
    built = inverted_build.build(folder, vectors, np.arange(rows), MatchOptions().recall)
    inverted_build.publish(folder, built, np.zeros(rows, np.bool_))
    engine = InvertedFileIndex(folder, lambda: vectors)
    queries = clusters(WARM_UP + _QUERIES, _WIDTH, seed=2)
    beside, counts = Bare(engine.opened, vectors), np.array([NEAREST])
    enough = beside.finding_as_much([(query[np.newaxis], counts) for query in queries[:RECALLED]])
    ours, bare, recall = np.zeros(len(queries)), np.zeros((len(queries), 2)), []
    for number, query in enumerate(queries):
        started_s = time.perf_counter()
        scores = engine.search(query, NEAREST, half)[1]
        ours[number] = time.perf_counter() - started_s
        probes = beside.as_many_lists(query[np.newaxis], counts), enough
        bare[number] = [beside.seconds(query[np.newaxis], counts, lists) if lists else np.nan for lists in probes]
        if number < RECALLED:
            recall.append((scores >= nearest(query, vectors, NEAREST, half)[1][-1] - 1e-6).mean())
    return summary("synthetic; window", ours, bare, np.array(recall))


def clusters(rows: int, dimensions: int, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors around random centres, [rows, d]; the centres are the same whatever the seed."""
    centres = np.random.default_rng(0).normal(size=(1000, dimensions)).astype(np.float32)
    rng = np.random.default_rng(seed)
    found: NDArray[np.float32] = centres[rng.integers(0, len(centres), rows)]
    found += 0.5 * rng.standard_normal((rows, dimensions), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
