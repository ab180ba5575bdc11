"""How long the pool's parts take at one size: taking in, deleting, opening again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pool.material import Model
from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.options import MatchOptions
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from protocol.schema import FeatureSchema

GIFTS_A_CALL = 32

RESTART = """
import sys, time; begin = time.perf_counter()
from pathlib import Path
from benchmarks.pool.measuring import anonymous_bytes, open_index
index = open_index(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]); opened = time.perf_counter()
import numpy as np
index.engine.search(np.zeros(index.matcher().view.vectors.shape[1], 'f4'), 10)
print(opened - begin, time.perf_counter() - begin, anonymous_bytes())
"""


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


def save(path: Path, values: dict[str, Any]) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(values, indent=2, default=asdict) + "\n")
