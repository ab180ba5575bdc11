"""All arms on all devices of a dataset, in worker processes, over the code that runs in production."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.arms import BY_AGREEMENT
from evaluation.plan import DEFAULT_ARMS
from evaluation.scores import DeviceRow
from evaluation.split import Device
from evaluation.worker import Job, run_job
from evaluation.workers import process_pool, usable_cores
from evaluation.world import Progress, World
from protocol.recipe import Recipe


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
        yield Job(world.folder, recipe, arms, device, world.find(device, recipe, by_agreement=BY_AGREEMENT in arms))
