"""All arms on all devices of a dataset, in worker processes, over the code that runs in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.interactions import Interactions
from evaluation.plan import DEFAULT_ARMS
from evaluation.results import ArmsResult, Setting
from evaluation.samples import Labels
from evaluation.scores import DeviceRow
from evaluation.split import Device, Part, Protocol, split_interactions
from evaluation.worker import Job, run_job
from evaluation.workers import process_pool, usable_cores
from evaluation.world import Progress, World, build_world
from protocol.recipe import Recipe


def evaluate_arms(
    data: Interactions,
    labels: Labels = Labels.IMPLICIT,
    protocol: Protocol = Protocol.NEW,
    *,
    model: str = DEFAULT_RECOMMENDER,
    recipe: Recipe | None = None,
    local_events: int | None = 20,
    arms: Sequence[str] = DEFAULT_ARMS,
    seed: int = 1,
    fold: int = 0,
    part: Part = "test",
    max_devices: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ArmsResult:
    """Build a world from the data and try every arm on every device.

    Args:
        data: The ratings.
        labels: What the labels shall mean.
        protocol: What the cloud knows of the devices' users.
        model: h0's network.
        recipe: Of every arm; None takes the defaults.
        local_events: Local events of a device, see `split_interactions`.
        arms: Which; ``cloud`` and ``coda`` always run.
        seed: Of the split and of h0.
        fold: Which third of the users are devices.
        part: ``validation`` while anything is still being chosen.
        max_devices: At most so many devices, the first by user; None takes all.
        workers: Processes; None takes one per CPU that this process may use.
        progress: Told what goes on.

    Raises:
        EvaluationError: If the data is too small, or a worker died.
    """
    recipe = recipe or Recipe(seed=seed)
    split = split_interactions(data, labels, protocol, local_events=local_events, seed=seed, fold=fold, part=part)
    devices = split.devices[:max_devices]
    with tempfile.TemporaryDirectory(prefix="coda-evaluate-") as folder:
        world = build_world(split, Path(folder), labels=labels, model=model, seed=seed, progress=progress)
        rows = run_devices(world, devices, recipe, arms, workers=workers, progress=progress)
    setting = Setting(
        dataset=data.name,
        synthetic=data.synthetic,
        model=model,
        labels=labels.value,
        protocol=protocol.value,
        local_events=local_events,
        seed=seed,
        fold=fold,
        part=part,
        recipe=recipe.to_dict(),
    )
    return ArmsResult(setting, tuple(rows))


def run_devices(
    world: World,
    devices: Sequence[Device],
    recipe: Recipe,
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[DeviceRow]:
    """Try ``arms`` on ``devices``; rows in the devices' order, the same whatever the number of workers.

    Raises:
        WorkerError: If a worker process died.
    """
    wanted = tuple(dict.fromkeys(["cloud", *arms, "coda"]))
    rows: list[DeviceRow] = []
    with process_pool(workers or usable_cores(), "trying devices") as pool:
        for row in pool.map(run_job, _jobs(world, devices, recipe, wanted)):
            rows.append(row)
            if progress is not None:
                progress("devices", len(rows), len(devices))
    return rows


def _jobs(world: World, devices: Sequence[Device], recipe: Recipe, arms: tuple[str, ...]) -> Iterator[Job]:
    for device in devices:
        yield Job(world.folder, recipe, arms, device, world.find(device, recipe))
