"""A worker process: opens a world's files once, then tries every arm on one of its devices after another.

It imports the edge's code and numpy, never TensorFlow or faiss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer
from evaluation.arms import try_arms
from evaluation.bench import Bench, Material
from evaluation.neighbours import Neighbours
from evaluation.pool_files import (
    CLASSIFIER_FILE,
    FROZEN_FOLDER,
    POOL_FOLDER,
    map_owner,
    map_pool,
    open_recommender,
)
from evaluation.scores import DeviceRow
from evaluation.split import Device
from protocol.recipe import Recipe

NEAREST_OF = 4  # the smaller K that an arm tries is one in so many of the matched samples


@dataclass(frozen=True)
class Found:
    """Pool rows for one device.

    Attributes:
        matched: Rows that the matcher found, int64.
        nearest: One in `NEAREST_OF` of them, those that it ranks first, int64.
        random: As many rows, drawn at random, int64.
        agreed: Rows that the matcher by agreement found, int64; none where no arm needs them.
        bytes_matched: Encoded size of the matched samples.
    """

    matched: NDArray[np.int64]
    nearest: NDArray[np.int64]
    random: NDArray[np.int64]
    agreed: NDArray[np.int64]
    bytes_matched: int


@dataclass(frozen=True)
class Job:
    """One device's work.

    Attributes:
        folder: The world's.
        recipe: Of every arm.
        arms: Which to try.
        device: Its local and test samples.
        found: What the cloud has for it.
    """

    folder: Path
    recipe: Recipe
    arms: tuple[str, ...]
    device: Device
    found: Found


class Worker:
    """One world's models and pool, opened in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._recommender = open_recommender(folder)
        frozen = folder / FROZEN_FOLDER
        self._frozen = open_recommender(frozen) if frozen.exists() else None
        self._classifier = Trainer(open_model(folder / CLASSIFIER_FILE))
        self._pool = map_pool(folder / POOL_FOLDER)
        self._neighbours = Neighbours(self._pool, map_owner(folder / POOL_FOLDER))

    def run(self, job: Job) -> DeviceRow:
        """The arms on one device."""
        material = Material(
            user=job.device.user,
            local=job.device.local,
            matched=self._pool.take(job.found.matched),
            nearest=self._pool.take(job.found.nearest),
            random=self._pool.take(job.found.random),
            agreed=self._pool.take(job.found.agreed),
            test=job.device.test,
        )
        bench = Bench(self._recommender, self._frozen, self._classifier, self._neighbours, job.recipe)
        return try_arms(bench, material, job.arms, job.found.bytes_matched)


_process_worker: list[Worker] = []


def run_job(job: Job) -> DeviceRow:
    """Do one device's work in this process, which keeps the last world open: a world's jobs come one after another."""
    if not _process_worker or _process_worker[0].folder != job.folder:
        _process_worker[:] = [Worker(job.folder)]
    return _process_worker[0].run(job)
