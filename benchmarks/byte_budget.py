"""What a device gets for its bytes, and how near it is: python -m benchmarks.byte_budget.

Where the nearest samples do not fit the bytes that a device allows, the cloud prefers, of those about as near, samples
that share histories with others (`cloud_broker.matching.byte_budget`). Against a cut of the ranking (preference 0) that
sends more samples. What it costs is told twice: how near they are, the mean inner product with the nearest centroid, on
a scale on which the first as many of the ranking are 1 and samples drawn at random are 0; and the drift, the share of
samples that went to another centroid than in the ranking.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from cloud_broker.matching.byte_budget import affordable
from cloud_broker.matching.matcher import PoolView
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.pool.columns import content_keys
from edge.learning.profile import build_profile
from edge.learning.recommender import latest_that_fit
from evaluation.building import build_world
from evaluation.datasets import load_dataset
from evaluation.pool_files import open_recommender
from evaluation.samples import Labels
from evaluation.split import Protocol, Split, split_interactions
from protocol.batch_codec import encode_batch
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, empty_batch

PREFERENCES = (0.0, 0.1, 0.25, 0.5, 1.0)
BUDGETS_KB = (5, 10, 20)


@dataclass(frozen=True)
class Ranking:
    """One device's query, answered without a bound on bytes.

    Attributes:
        samples: The most wanted first.
        nearness: [n], each one's inner product with its nearest centroid.
        centroid: [n], which one that is.
        by_chance: The mean of that over the pool.
    """

    samples: SampleBatch
    nearness: NDArray[np.float32]
    centroid: NDArray[np.int64]
    by_chance: float

    def scaled(self, chosen: NDArray[np.int64]) -> float:
        """How near the chosen are: 1 as the ranking's first so many, 0 as random ones."""
        first = float(self.nearness[: len(chosen)].mean())
        return (float(self.nearness[chosen].mean()) - self.by_chance) / (first - self.by_chance)

    def drift(self, chosen: NDArray[np.int64]) -> float:
        """Share of the chosen that would have to change their centroid for the shares to be the ranking's."""
        centroids = int(self.centroid.max()) + 1
        now, before = (
            np.bincount(rows, minlength=centroids) / len(rows) for rows in (self.centroid[chosen], self.centroid)
        )
        return float(np.abs(now - before).sum() / 2)


def main() -> None:
    """Measure and print."""
    asked = _arguments()
    data = load_dataset(asked.data, allow_download=False)
    split = split_interactions(data, Labels.IMPLICIT, Protocol.NEW)
    with tempfile.TemporaryDirectory(prefix="coda-benchmark-") as folder:
        rankings = list(_rankings(split, Path(folder), asked.devices))
    table = Table(box=box.MARKDOWN)
    for name in ("budget kB", "preference", "samples", "against 0", "nearness", "drift", "kB sent"):
        table.add_column(name, justify="right")
    for budget_kb in BUDGETS_KB:
        least = None
        for preference in PREFERENCES:
            found = [_within(ranking, budget_kb * 1000, preference) for ranking in rankings]
            count, near, drift, size = (mean(values) for values in zip(*found, strict=True))
            least = least or count
            gain = f"{count / least - 1:+.0%}"
            table.add_row(
                f"{budget_kb}",
                f"{preference}",
                f"{count:.0f}",
                gain,
                f"{near:.3f}",
                f"{drift:.2f}",
                f"{size / 1000:.1f}",
            )
    whole = mean(len(encode_batch(ranking.samples, keep_order=False)) for ranking in rankings) / 1000
    ranked = mean(len(ranking.samples) for ranking in rankings)
    Console(width=100).print(
        f"{asked.data}: {len(rankings)} devices, a pool of {len(split.pool)} samples; "
        f"without a bound {ranked:.0f} samples in {whole:.1f} kB",
        table,
    )


def _rankings(split: Split, folder: Path, devices: int) -> Iterator[Ranking]:
    build_world(split, folder, labels=Labels.IMPLICIT)
    vectors = np.load(folder / "vectors.npy")
    matcher = ProfileMatcher(PoolView(vectors, split.pool_owner, content_keys(split.pool)))
    device_side, recipe = open_recommender(folder), Recipe()
    for device in split.devices[:devices]:
        local = latest_that_fit(device.local, device_side.table)
        ready = device_side.prepare(local, empty_batch(local.schema))
        profile = build_profile(ready.trainer, ready.local, recipe)
        query = profile.query("benchmark", 1, device_side.model.sha256, recipe)
        rows = matcher.rank(query, device.user)
        products = vectors[rows] @ query.profile().T
        nearest = products.argmax(axis=1).astype(np.int64)
        yield Ranking(
            split.pool.take(rows),
            products.max(axis=1),
            nearest,
            float((vectors[::17] @ query.profile().T).max(axis=1).mean()),
        )


def _within(ranking: Ranking, max_bytes: int, preference: float) -> tuple[int, float, float, int]:
    """Samples sent, their nearness and drift, and the bytes: as many of the preferred as really fit."""
    everything = len(encode_batch(ranking.samples, keep_order=False))
    order = affordable(ranking.samples, everything, max_bytes, preference=preference)
    low, high, size = 1, len(order), 0
    while low < high:
        middle = (low + high + 1) // 2
        size = len(encode_batch(ranking.samples.take(order[:middle]), keep_order=False))
        low, high = (middle, high) if size <= max_bytes else (low, middle - 1)
    chosen = order[:low]
    return (
        low,
        ranking.scaled(chosen),
        ranking.drift(chosen),
        len(encode_batch(ranking.samples.take(chosen), keep_order=False)),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.byte_budget", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", default="ml-latest-small", help="a dataset's name or folder (%(default)s)")
    parser.add_argument("--devices", type=int, default=40, help="devices that ask (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
