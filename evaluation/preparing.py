"""The cloud's part of a study, one world a process: split, h0, and what the matcher finds for every device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.arms import BY_AGREEMENT
from evaluation.interactions import Interactions
from evaluation.journal import CellFacts
from evaluation.plan import Cell, Place, Plan
from evaluation.split import Split, split_interactions
from evaluation.worker import Job
from evaluation.world_cache import cached_world

_process_data: list[Interactions] = []


Missing = Mapping[Cell, Mapping[int, tuple[str, ...]]]
"""The cells to be done, and for users who have a row there the arms that they still lack."""


@dataclass(frozen=True)
class CellJobs:
    """What is to be done in one cell.

    Attributes:
        cell: Which.
        facts: What its split came to.
        jobs: One for every device that lacks an arm.
    """

    cell: Cell
    facts: CellFacts
    jobs: tuple[Job, ...]


def start_preparing(data: Interactions, threads: int) -> None:
    """Give this process the data, and TensorFlow its share of the cores; called once in each."""
    # It is loaded only where a world is to be built, and then reads these.
    os.environ.update(TF_NUM_INTRAOP_THREADS=str(threads), TF_NUM_INTEROP_THREADS="1")
    _process_data[:] = [data]


def prepare(plan: Plan, place: Place, missing: Missing, keep_in: Path) -> list[CellJobs]:
    """Build one world and ask it for what every device needs.

    Args:
        plan: The study.
        place: Which world.
        missing: What is to be done.
        keep_in: Where worlds are kept.

    Raises:
        SplitError: If the data is too small.
        TrainingError: If training diverges.
    """
    data = _process_data[0]
    recipe = replace(plan.recipe, seed=place.seed)
    done, world = [], None
    for cell, lacking in missing.items():
        split = _split(data, plan, cell)
        if world is None:
            world = cached_world(split, plan.labels, model=plan.model, seed=place.seed, keep_in=keep_in)
        jobs = []
        for device in split.devices[: plan.max_devices]:
            arms = lacking.get(device.user, plan.arms)
            if arms:
                found = world.find(device, recipe, by_agreement=BY_AGREEMENT in arms)
                jobs.append(Job(world.folder, recipe, arms, device, found))
        done.append(CellJobs(cell, _facts(split), tuple(jobs)))
    return done


def _split(data: Interactions, plan: Plan, cell: Cell) -> Split:
    return split_interactions(
        data,
        plan.labels,
        plan.protocol,
        local_events=cell.local_events,
        negatives=plan.negatives,
        negatives_by=plan.negatives_by,
        split_time_s=plan.split_time_s,
        seed=cell.place.seed,
        fold=cell.place.fold,
        part=plan.part,
    )


def _facts(split: Split) -> CellFacts:
    return CellFacts(
        users=tuple(device.user for device in split.devices),
        skipped_users=split.skipped_users,
        one_class_users=sum(len(np.unique(device.test.label)) < 2 for device in split.devices),
        empty_users=sum(len(device.local) == 0 for device in split.devices),
        pool_samples=len(split.pool),
    )
