"""Print what a cloud bears: python -m benchmarks.load, at full size; 20 minutes on a machine that does nothing else."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.cloud import fill
from benchmarks.load.growth import SIZES, by_devices, exponents
from benchmarks.load.kills import kill_under_load
from benchmarks.load.plot import save_plot
from benchmarks.load.steps import steps
from benchmarks.load.waves import Plan, Row, by_workers, steady_and_overload
from tests.postgres import postgres_server

PARTS = ("steps", "waves", "workers", "growth", "kills")
_COLUMNS = {
    "wave": "wave", "offered_per_s": "offered/s", "asked_per_s": "asked/s", "asked": "asked",
    "answered_at_once": "at once",
    "answered_after_put_off": "put off first", "still_put_off": "still put off", "put_offs": "refusals",
    "lost": "lost", "while_asking_per_s": "answered/s", "p50_ms": "p50 ms",
    "p99_ms": "p99 ms", "after_put_off_p99_s": "p99 of put off, s",
}  # fmt: skip
_COSTS = ("workers_cpu_s", "broker_cpu_s", "tender_cpu_s", "client_cpu_s")
_GROWTH = {
    "devices": "devices", "connect_s": "connected in s", "workers_ms": "workers ms", "broker_ms": "broker ms",
    "client_ms": "client ms", "all_ms": "all ms", "p50_ms": "p50 ms", "p99_ms": "p99 ms",
    "while_asking_per_s": "answered/s", "put_offs": "refusals", "lost": "lost", "load_before": "load before",
}  # fmt: skip


def main() -> int:
    """Measure as asked; 1 where anything acknowledged was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--devices", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=1000.0, help="match requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a wave")
    parser.add_argument("--samples", type=int, default=100, help="matched samples of an answer")
    parser.add_argument("--workers", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of a worker, see cloud.toml (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="of the simulation")
    parser.add_argument("--data", default="ml-100k", help="whose ratings the pool is")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="devices of growth, in turn")
    parser.add_argument("--kill-rounds", type=int, default=3, help="how often each part is killed")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="of the cloud that is killed"
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--plot", type=Path, help="draw answers a second by workers there")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console, found = Console(width=150, highlight=False), {}
    with tempfile.TemporaryDirectory() as scratch:
        found = _measure(asked, Path(scratch), console)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found.get("kills", {"clean": True})["clean"] else 1


def _measure(asked: argparse.Namespace, base: Path, console: Console) -> dict[str, Any]:
    def say(text: str) -> None:
        console.print(text)

    say(f"a pool of {fill(base / 'filled', asked.data):,} samples")
    plan = Plan(asked.devices, asked.rate, asked.seconds, asked.samples, asked.processes, asked.threads)
    found: dict[str, Any] = {"plan": asdict(plan)}
    if "steps" in asked.parts:
        found["steps"] = steps(base / "filled", plan.samples)
        for name, cost_ms in found["steps"].items():
            say(f"{name:36}{cost_ms:8.3f} ms")
    if "waves" in asked.parts:
        found["waves"] = steady_and_overload(plan, base / "filled", base / "waves", asked.workers, say)
        console.print(_table(found["waves"]), _costs(found["waves"]))
    if "workers" in asked.parts:
        found["workers"] = by_workers(plan, base / "filled", base / "workers", asked.workers, say)
        console.print(_table(found["workers"]), _costs(found["workers"]))
        if asked.plot:
            points = [(row["workers"], row["while_asking_per_s"]) for row in found["workers"]]
            save_plot(asked.plot, points, f"match requests answered a second, {plan.samples} samples each")
    if "growth" in asked.parts:
        grown = by_devices(plan, base / "filled", base / "growth", workers=asked.workers, sizes=asked.sizes, say=say)
        found["growth"] = {"rows": grown, "exponents": exponents(grown)}
        console.print(_grown(**found["growth"]))
    if "kills" in asked.parts:
        with postgres_server() if asked.database == "postgresql" else nullcontext() as server:
            losses = kill_under_load(
                base / "filled", base / "kills", workers=asked.workers, devices=min(asked.devices, 500),
                rate=asked.rate / 10, rounds=asked.kill_rounds, givers=4, say=say, server=server,
            )  # fmt: skip
        for name, value in asdict(losses).items():
            say(f"{name.replace('_', ' '):18}{value:8}")
        found["kills"] = asdict(losses) | {"clean": losses.clean}
    return found


def _table(rows: list[Row]) -> Table:
    table = Table(*_COLUMNS.values())
    for row in rows:
        table.add_row(*(_text(row[name]) for name in _COLUMNS))
    return table


def _costs(rows: list[Row]) -> Table:
    table = Table("processor ms a question", *(name.removesuffix("_cpu_s") for name in _COSTS), "all", "load before")
    for row in rows:
        each = [1e3 * row[name] / max(row["asked"], 1) for name in _COSTS]
        table.add_row(row["wave"], *(f"{cost:.2f}" for cost in (*each, sum(each))), _text(row["load_before"]))
    return table


def _grown(rows: list[Row], exponents: dict[str, float]) -> Table:
    table = Table(*_GROWTH.values(), title="a question at a quarter of the rate, and what is answered at all of it")
    for row in rows:
        table.add_row(*(f"{row[name]:.2f}" if name.endswith("_ms") else _text(row[name]) for name in _GROWTH))
    table.add_row("exponent", *(f"{exponents[name]:.2f}" if name in exponents else "" for name in list(_GROWTH)[1:]))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
