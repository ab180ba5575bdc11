"""A worker process: opens the model files once, then tries every arm on one device after another.

It imports the edge's code and numpy, never TensorFlow or faiss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.runtime import open_model
from edge.trainer import Trainer
from evaluation.arms import Bench, Material
from evaluation.pool_files import CLASSIFIER_FILE, POOL_FOLDER, map_pool, open_recommender
from evaluation.scores import DeviceRow
from evaluation.split import Device
from protocol.recipe import Recipe
from protocol.samples import SampleBatch


@dataclass(frozen=True)
class Job:
    """One device's work.

    Attributes:
        device: Its local and test samples.
        matched: Rows of the pool that the cloud found, int64.
        random: Rows of the pool drawn at random, int64.
        bytes_matched: Encoded size of the matched samples.
    """

    device: Device
    matched: NDArray[np.int64]
    random: NDArray[np.int64]
    bytes_matched: int


class Worker:
    """A bench and the pool, of one process."""

    def __init__(self, folder: Path, recipe: Recipe, arms: Sequence[str]) -> None:
        self._bench = Bench(open_recommender(folder), Trainer(open_model(folder / CLASSIFIER_FILE)), recipe)
        self._pool = map_pool(folder / POOL_FOLDER)
        self._arms = tuple(arms)

    def run(self, job: Job) -> DeviceRow:
        """All arms on one device."""
        material = Material(
            local=job.device.local, matched=self._take(job.matched), random=self._take(job.random), test=job.device.test
        )
        return self._bench.run(job.device.user, material, self._arms, job.bytes_matched)

    def _take(self, rows: NDArray[np.int64]) -> SampleBatch:
        return self._pool.take(rows)


_process_worker: list[Worker] = []


def start_worker(folder: Path, recipe: Recipe, arms: Sequence[str]) -> None:
    """Make this process a worker; called once in each."""
    _process_worker[:] = [Worker(folder, recipe, arms)]


def run_job(job: Job) -> DeviceRow:
    """Do one device's work in this process."""
    return _process_worker[0].run(job)
