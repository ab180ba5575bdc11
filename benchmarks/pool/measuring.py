"""How long the pool's parts take at one size: taking in, indexing, matching, deleting, opening again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.pool.material import Model
from cloud_broker import inverted_build
from cloud_broker.index import SampleIndex
from cloud_broker.inverted_file import InvertedFileIndex, probing
from cloud_broker.match_options import MatchOptions
from cloud_broker.matching import quotas
from cloud_broker.pool import Given, SamplePool
from cloud_broker.pool_options import PoolOptions
from cloud_broker.vector_index import Allowed, VectorIndex, nearest
from edge.profile import k_means
from protocol.messages import Query
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

NEAREST = 1000
GIFTS_A_CALL = 32
_WARM_UP = 20
_RECALLED = 60  # queries that exact search answers too: each user who asks, once

RESTART = """
import sys, time; begin = time.perf_counter()
from pathlib import Path
from benchmarks.pool.measuring import anonymous_bytes, open_index
index = open_index(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]); opened = time.perf_counter()
import numpy as np
index.engine.search(np.zeros(index.matcher().view.vectors.shape[1], 'f4'), 10)
print(opened - begin, time.perf_counter() - begin, anonymous_bytes())
"""


@dataclass(frozen=True)
class Asked:
    """How queries of one form fared.

    Attributes:
        form: What was asked.
        p50_ms: Median of the matcher's time.
        p99_ms: Its 99th percentile.
        bare_p50_ms: The same of bare faiss, same index, same centroids, as many rows, no filters.
        ratio: Median over queries of matcher to bare.
        recall: Share of what the engine finds that is as near as what exact search finds.
    """

    form: str
    p50_ms: float
    p99_ms: float
    bare_p50_ms: float
    ratio: float
    recall: float


def open_index(folder: Path, model: Path, sha256: str, **options: Any) -> SampleIndex:
    """The pool under ``folder`` and its index."""
    return SampleIndex(SamplePool(folder), model, sha256, options=MatchOptions(**options))


def take_in(pool: SamplePool, gifts: Iterator[Given], until: int) -> tuple[int, float]:
    """Add samples until the pool has that many: how many came, and seconds of the adding alone."""
    elapsed_s, begin = 0.0, len(pool)
    while len(pool) < until:
        some = [next(gifts) for _ in range(GIFTS_A_CALL)]
        started_s = time.perf_counter()
        pool.add_many(some)
        elapsed_s += time.perf_counter() - started_s
    return len(pool) - begin, elapsed_s


def fill(folder: Path, schema: FeatureSchema, gifts: Iterator[Given], samples: int) -> tuple[int, float]:
    """`take_in` to a new pool, or what it took before if the pool is there."""
    noted = folder.with_suffix(".json")
    if not noted.exists():
        pool = SamplePool(folder, schema, PoolOptions(max_samples_per_contributor=10**6))
        noted.write_text(json.dumps(take_in(pool, gifts, samples)))
        pool.close()
    came, elapsed_s = json.loads(noted.read_text())
    return int(came), float(elapsed_s)


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
    engine = index.engine
    pool, rng = index.pool, np.random.default_rng(1)
    owners = [int(number) for number in rng.choice(np.unique(pool.contributors), len(asked))]
    ours, bare = np.zeros(len(asked)), np.zeros(len(asked))
    for number, (query, owner) in enumerate(zip(asked, owners, strict=True)):
        started_s = time.perf_counter()
        index.matcher().rank(query, owner)
        ours[number] = time.perf_counter() - started_s
        bare[number] = _bare_s(engine, index, query)
    ours, bare = ours[_WARM_UP:] * 1e3, bare[_WARM_UP:] * 1e3
    return Asked(
        form,
        float(np.median(ours)),
        float(np.percentile(ours, 99)),
        float(np.median(bare)),
        float(np.median(ours / bare)),
        _recall(index, asked[:_RECALLED]),
    )


def ask_clusters(rows: int, folder: Path) -> Asked:
    """The engine alone over synthetic vectors, half of them within a window; queries lie between clusters' members."""
    vectors, half = clusters(rows, 32), Allowed(np.arange(rows) >= rows // 2)
    built = inverted_build.build(folder, vectors, np.arange(rows), MatchOptions().recall)
    inverted_build.publish(folder, built, np.zeros(rows, np.bool_))
    engine = InvertedFileIndex(folder, lambda: vectors)
    queries = clusters(_WARM_UP + 200, 32)
    ours, bare, recall = np.zeros(len(queries)), np.zeros(len(queries)), []
    for number, query in enumerate(queries):
        started_s = time.perf_counter()
        scores = engine.search(query, NEAREST, half)[1]
        ours[number] = (time.perf_counter() - started_s) * 1e3
        started_s = time.perf_counter()
        engine.opened.index.search(query[np.newaxis], NEAREST, params=probing(built.probes_for(NEAREST)))
        bare[number] = (time.perf_counter() - started_s) * 1e3
        if number < _RECALLED:
            recall.append((scores >= nearest(query, vectors, NEAREST, half)[1][-1] - 1e-6).mean())
    ours, bare = ours[_WARM_UP:], bare[_WARM_UP:]
    p50_ms, p99_ms = (float(value) for value in np.percentile(ours, [50, 99]))
    ratio = float(np.median(ours / bare))
    return Asked("synthetic; window", p50_ms, p99_ms, float(np.median(bare)), ratio, float(np.mean(recall)))


def _bare_s(engine: VectorIndex, index: SampleIndex, query: Query) -> float:
    """Seconds that faiss takes by itself for what the query asks."""
    faiss.omp_set_num_threads(1)
    wanted = zip(query.profile(), quotas(query.weights, query.max_samples), strict=True)
    pairs = [(np.ascontiguousarray(centroid[np.newaxis]), quota) for centroid, quota in wanted if quota]
    vectors = index.matcher().view.vectors
    opened = engine.opened if isinstance(engine, InvertedFileIndex) else None
    started_s = time.perf_counter()
    for centroid, quota in pairs:
        if opened is None:
            faiss.knn(centroid, vectors, quota, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            opened.index.search(centroid, quota, params=probing(opened.current.probes_for(quota)))
    return time.perf_counter() - started_s


def _recall(index: SampleIndex, asked: list[Query]) -> float:
    """Mean over queries, within the filters; by score, since of samples with equal vectors any is as good."""
    view, found = index.matcher().view, []
    for query in asked:
        pairs = [pair for pair in zip(query.profile(), quotas(query.weights, NEAREST), strict=True) if pair[1]]
        reached = 0
        for centroid, quota in pairs:
            least = nearest(centroid, view.vectors, quota, view.allowed)[1][-1] - 1e-6
            reached += int((index.engine.search(centroid, quota, view.allowed)[1] >= least).sum())
        found.append(reached / sum(quota for _, quota in pairs))
    return float(np.mean(found))


def forget(index: SampleIndex, some: int = 5) -> float:
    """Median seconds to delete a contributor: off the list, and zeros in columns, vectors, lists and segments."""
    names = index.pool.contributor_names()
    chosen = np.random.default_rng(2).choice(np.unique(index.pool.contributors[index.pool.contributors > 0]), some)
    took = []
    for number in chosen.tolist():
        started_s = time.perf_counter()
        assert index.forget(names[number], "benchmark")
        took.append(time.perf_counter() - started_s)
    return float(np.median(took))


def restart(folder: Path, model: Model) -> tuple[float, int]:
    """Another process: seconds to open pool and index, imports included, and search once; bytes that are its own."""
    command = [sys.executable, "-c", RESTART, str(folder), str(model.path), model.sha256]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, searched_s, own_bytes = done.stdout.split()[-3:]
    return float(searched_s), int(own_bytes)


def anonymous_bytes() -> int:
    """This process's memory but for the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) * 1024


def disk_bytes(folder: Path) -> int:
    """What lies on disk under a folder; holes do not count."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def clusters(rows: int, dimensions: int, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors around random centres, [rows, d]: what benchmarks of indices commonly use."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(1000, dimensions)).astype(np.float32)
    found: NDArray[np.float32] = centres[rng.integers(0, len(centres), rows)]
    found += 0.5 * rng.standard_normal((rows, dimensions), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def save(path: Path, values: dict[str, Any]) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(values, indent=2, default=asdict) + "\n")
