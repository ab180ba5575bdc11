"""What a question costs, and how many are answered a second, by how many devices are connected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.load.cloud import LoadedCloud
from benchmarks.load.waves import Plan, Row, wave
from coda.simulation.herd import Herd, Wave

SIZES = (100, 1_000, 10_000)
_SHARE = 0.25  # of the plan's rate at which a question's cost is measured: far from what is borne
_PATIENCE_S = 10.0
_COSTS = ("workers", "broker", "client")


def by_devices(
    plan: Plan, filled: Path, folder: Path, *, workers: int, sizes: Sequence[int], say: Callable[[str], None]
) -> list[Row]:
    """One cloud, and herds of more and more devices, each asked at a quarter of the plan's rate and at all of it.

    Args:
        plan: What to ask; its devices are those of ``sizes``.
        filled: What `benchmarks.load.cloud.fill` filled.
        folder: For everything.
        workers: How many.
        sizes: How many devices are connected, in turn.
        say: Told how it goes.

    Returns:
        For each size: ``devices``, ``connect_s``, processor time a question in ms at the lower rate (``workers_ms``,
        ``broker_ms``, ``client_ms``, ``all_ms``), its ``p50_ms`` and ``p99_ms``; and at the higher rate how many were
        answered a second, ``while_asking_per_s``.
    """
    rows = []
    with LoadedCloud(folder, filled, workers, threads=plan.threads) as cloud:
        for size in sizes:
            with Herd(cloud.order(size, plan.samples, f"g{size}"), plan.processes) as herd:
                connect_s = herd.connect()
                wave(cloud, herd, "warm-up", Wave(plan.rate * _SHARE / 2, 3.0, _PATIENCE_S))
                calm = wave(cloud, herd, "calm", Wave(plan.rate * _SHARE, plan.seconds, _PATIENCE_S))
                full = wave(cloud, herd, "full", Wave(plan.rate, plan.seconds, _PATIENCE_S))
            each = {f"{who}_ms": 1e3 * calm[f"{who}_cpu_s"] / max(calm["asked"], 1) for who in _COSTS}
            rows.append(
                {"devices": size, "connect_s": connect_s, **each, "all_ms": sum(each.values())}
                | {name: calm[name] for name in ("p50_ms", "p99_ms", "lost", "load_before")}
                | {"while_asking_per_s": full["while_asking_per_s"], "put_offs": full["put_offs"]}
            )
            rate = full["while_asking_per_s"]
            say(f"{size:,} devices: {rows[-1]['all_ms']:.2f} ms a question, {rate:.0f} answered a second")
    return rows


def exponents(rows: Sequence[Row]) -> dict[str, float]:
    """How each cost grows with the devices: cost ~ devices to that power, by least squares on logarithms."""
    names = ["connect_s", *(f"{who}_ms" for who in (*_COSTS, "all")), "while_asking_per_s"]
    sizes = np.log([row["devices"] for row in rows])
    found = {}
    for name in names:
        costs = [row[name] for row in rows]
        if len(rows) > 1 and all(costs):
            found[name] = float(np.polyfit(sizes, np.log(costs), 1)[0])
    return found
