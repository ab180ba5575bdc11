"""Waves of questions against a cloud: at a rate it bears, at twice what it bears, and with more workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.cloud import LoadedCloud
from coda.simulation.figures import figures
from coda.simulation.herd import Herd, Wave

Row = dict[str, Any]
Say = Callable[[str], None]
_PATIENCE_S = 20.0  # for those that are put off to come again


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        devices: Connected at a time.
        rate: Match requests a second that are to be borne.
        seconds: Of a wave.
        samples: Matched samples that each asks for.
        processes: Of the simulation.
        threads: Of a worker.
    """

    devices: int
    rate: float
    seconds: float
    samples: int
    processes: int
    threads: int


def steady_and_overload(plan: Plan, filled: Path, folder: Path, workers: int, say: Say) -> list[Row]:
    """The rate asked for; as much as can be; twice what that showed to be borne; and half of it, to see it recover."""
    with (
        LoadedCloud(folder, filled, workers, threads=plan.threads) as cloud,
        Herd(cloud.order(plan.devices, plan.samples, "wave"), plan.processes) as herd,
    ):
        say(f"{plan.devices} devices connected in {herd.connect():.1f} s")
        cloud.rest()
        warm = wave(cloud, herd, "warm-up", Wave(plan.rate / 10, min(5.0, plan.seconds), _PATIENCE_S))
        rows = [warm, wave(cloud, herd, "asked for", Wave(plan.rate, plan.seconds, _PATIENCE_S))]
        borne = rows[-1]["while_asking_per_s"]
        if rows[-1]["put_offs"] == 0:
            most = wave(cloud, herd, "as much as can be", Wave(4 * plan.rate, plan.seconds, _PATIENCE_S))
            rows.append(most)
            borne = most["while_asking_per_s"]
        rows.append(wave(cloud, herd, "twice what is borne", Wave(2 * borne, plan.seconds, _PATIENCE_S)))
        rows.append(wave(cloud, herd, "half of what is borne, after that", Wave(borne / 2, plan.seconds, _PATIENCE_S)))
        return rows


def by_workers(plan: Plan, filled: Path, folder: Path, most: int, say: Say) -> list[Row]:
    """What is answered a second of more than can be, by the number of workers."""
    rows = []
    for workers in range(1, most + 1):
        with (
            LoadedCloud(folder / str(workers), filled, workers, threads=plan.threads) as cloud,
            Herd(cloud.order(min(plan.devices, 1000), plan.samples, f"w{workers}"), plan.processes) as herd,
        ):
            herd.connect()
            cloud.rest()
            wave(cloud, herd, "warm-up", Wave(plan.rate / 10, min(5.0, plan.seconds), _PATIENCE_S))
            row = wave(cloud, herd, f"{workers} workers", Wave(plan.rate, plan.seconds, _PATIENCE_S))
            rows.append(row | {"workers": workers})
            say(f"{workers} workers: {row['while_asking_per_s']:.0f} answered a second")
    return rows


def wave(cloud: LoadedCloud, herd: Herd, name: str, asked: Wave) -> Row:
    """Have a herd ask, and say what came of it: `coda.simulation.figures.figures`, processor time, load before."""
    before, load = cloud.cpu_s(), os.getloadavg()[0]
    found = figures(herd.ask(asked), asked)
    found["asked_per_s"] = found["asked"] / asked.duration_s
    spent = {f"{who}_cpu_s": after - before[who] for who, after in cloud.cpu_s().items()}
    return {"wave": name, **found, **spent, "load_before": load}
