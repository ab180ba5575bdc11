"""What the cloud's pool costs by its size: python -m benchmarks.pool --samples 10000000.

At 1e5, 1e6 and so on up to ``--samples``: durable intake, embedding, the making of the
inverted file, queries for 1,000 samples with filters against bare faiss and exact search, deleting a contributor, and
opening everything again in another process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.pool import asking, measuring, synthetic, tables
from benchmarks.pool.material import Material, Model
from benchmarks.training.machine import describe, sentence
from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.inverted_file import InvertedFileIndex
from cloud_broker.matching.vector_index import nearest
from cloud_broker.pool.sample_pool import SamplePool

QUERIES = 220
GOALS = (
    "goals at 1e7: p50 <= 5 ms, p99 <= 20 ms, recall >= 0.98, ratio <= 1.6; "
    "intake >= 20,000/s; restart <= 10 s; delete <= 1 s"
)


def main() -> None:
    """Grow a pool, measure it on the way, print a table."""
    asked = _arguments()
    console, machine = Console(width=140, highlight=False), describe()
    console.print(sentence(machine) + "\n", soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="coda-pool-") as folder:
        at = asked.folder or Path(folder)
        at.mkdir(parents=True, exist_ok=True)
        material = Material()
        model = material.model(at)
        sizes = [size for size in (10**5, 10**6, 10**7, 10**8) if asked.least <= size < asked.samples] + [asked.samples]
        results = [_measure(at / f"pool-{size}", material, model, size, asked.timing_cpu) for size in sizes]
        if asked.synthetic:
            found = synthetic.ask_clusters(asked.synthetic, at / "synthetic")
            results.append({"samples": asked.synthetic, "queries": [found]})
    console.print(tables.queries(results))
    results = [result for result in results if "p50_ms" in result]
    console.print(tables.costs(results))
    console.print(GOALS)
    if asked.json is not None:
        measuring.save(asked.json, {"machine": machine, "sizes": results, "exponents": tables.exponents(results)})


def _measure(folder: Path, material: Material, model: Model, size: int, timing_cpu: int | None) -> dict[str, Any]:
    _tell(size, "taking in")
    came, intake_s = measuring.fill(folder, material.schema, material.gifts(), size)
    _tell(size, f"{came / intake_s:,.0f} samples/s; embedding")
    embeds = not (folder / "derived").exists()
    started_s = time.perf_counter()
    index = measuring.open_index(folder, model.path, model.sha256, window_days=_window_days(folder))
    embed_s = time.perf_counter() - started_s
    _tell(size, f"{came / embed_s:,.0f} vectors/s; indexing")
    started_s = time.perf_counter()
    index.tidy()
    index_s = time.perf_counter() - started_s
    _tell(size, f"{index_s:.1f} s; asking")
    with _on(timing_cpu):
        forms = _ask_all(folder, material, model, index)
        exact_ms = _exact_ms(index)
    forget_s = measuring.forget(index)
    index.close()
    index.pool.close()
    _tell(size, f"deleting took {forget_s:.3f} s; opening again")
    restart_s, own_bytes = measuring.restart(folder, model)
    engine = index.engine
    current = engine.opened.current if isinstance(engine, InvertedFileIndex) else None
    return {
        "samples": size, "intake_per_s": came / intake_s,
        "embed_per_s": came / embed_s if embeds else None, "index_s": index_s if embeds and current else None,
        "reach": None if current is None else float(current.looks_for(np.array([asking.NEAREST]))[0][0]),
        "queries": forms, "p50_ms": forms[1].p50_ms, "exact_ms": exact_ms, "forget_s": forget_s,
        "restart_s": restart_s, "disk_bytes": measuring.disk_bytes(folder), "anonymous_bytes": own_bytes,
    }  # fmt: skip


def _ask_all(folder: Path, material: Material, model: Model, windowed: SampleIndex) -> list[asking.Asked]:
    """One centroid and eight; with k-anonymity and own samples left out, and also within a window."""
    unwindowed = measuring.open_index(folder, model.path, model.sha256)
    askers = material.askers()
    found = []
    for index, filters in ((unwindowed, "own, k"), (windowed, "own, k, window")):
        for centroids in (1, 8):
            asked = asking.queries(askers, index, centroids, QUERIES)
            found.append(asking.ask(index, asked, f"{centroids} centroid{'s' * (centroids > 1)}; {filters}"))
    return found


def _exact_ms(index: SampleIndex) -> float:
    vectors, took = index.matcher().view.vectors, []
    for row in range(5):
        started_s = time.perf_counter()
        nearest(vectors[row], vectors, asking.NEAREST)
        took.append(time.perf_counter() - started_s)
    return float(np.median(took) * 1e3)


def _window_days(folder: Path) -> float:
    """Days back from now that leave the later half of the samples."""
    pool = SamplePool(folder)
    median_s = float(np.median(pool.columns.column("time_s")[::7]))
    pool.close()
    return (time.time() - median_s) / 86_400.0


class _on:  # noqa: N801 - reads as a word
    """Run on one processor meanwhile."""

    def __init__(self, cpu: int | None) -> None:
        self._cpu = cpu
        self._before = os.sched_getaffinity(0)

    def __enter__(self) -> None:
        if self._cpu is not None:
            os.sched_setaffinity(0, {self._cpu})

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def _tell(size: int, what: str) -> None:
    print(f"  {size:>11,}  {what}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000, help="the largest pool (%(default)s)")
    parser.add_argument("--least", type=int, default=10**5, help="the smallest pool (%(default)s)")
    parser.add_argument("--synthetic", type=int, default=0, help="also ask so many vectors in random clusters")
    parser.add_argument(
        "--folder", type=Path, help="use the pool and model that are here, or keep them here; 4 GB for 10 million"
    )
    parser.add_argument("--timing-cpu", type=int, help="processor that queries are timed on")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
