"""What a file costs by the size of the catalogue: python -m benchmarks.catalogue.

An embedding table of the whole catalogue travels in the file and lies in the device's memory. Where conversions can
give a device a table of fixed size (`ConvertOptions.slots`), none of these figures may grow by more than 5%.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training.contenders import CONTENDERS, RUNTIMES
from benchmarks.training.job import Job
from benchmarks.training.machine import describe, sentence
from benchmarks.training.race import race

SMALL, LARGE = 10_000, 1_500_000
SLOTS = 4_096
GOAL_GROWTH = 0.05


@dataclass(frozen=True)
class Cost:
    """What one catalogue costs one Trainer.

    Attributes:
        items: Rows of the catalogue's table.
        trainable: Trainable set of the conversion.
        contender: Whose Trainer: a key of `CONTENDERS`.
        file_bytes: Of the converted file.
        peak_rss_bytes: Of a process that takes one pass.
        step_s: Of a warm step.
    """

    items: int
    trainable: str
    contender: str
    file_bytes: int
    peak_rss_bytes: float
    step_s: float


def main() -> None:
    """Print a row for each catalogue, trainable set and runtime."""
    asked = _arguments()
    console = Console(width=120, highlight=False)
    machine = describe()
    console.print(sentence(machine) + "\n", soft_wrap=True)
    sizes = (SMALL, LARGE) if has_slots() else (SMALL,)
    costs = [
        cost
        for trainable in ("head", "all")
        for items in sizes
        for cost in measure(items, trainable, asked.repetitions, asked.passes)
    ]
    console.print(_table(costs))
    if LARGE not in sizes:
        console.print(f"{LARGE:,} items: not measured, since ConvertOptions has no `slots`: the table would travel.")
    if asked.json is not None:
        values = {"machine": machine, "costs": [asdict(cost) for cost in costs]}
        asked.json.write_text(json.dumps(values, indent=2) + "\n")


def has_slots() -> bool:
    """Whether a conversion can give a device a table of fixed size."""
    from converters.options import ConvertOptions

    return "slots" in {option.name for option in fields(ConvertOptions)}


def measure(items: int, trainable: str, repetitions: int, passes: int) -> list[Cost]:
    """The cost of a catalogue of ``items`` to the Trainer, by installed runtime."""
    from benchmarks.training.prepare import prepare

    options: dict[str, Any] = {"slots": {"item": SLOTS}} if has_slots() else {}
    keys = [key for key in (f"trainer-{runtime}" for runtime in RUNTIMES) if CONTENDERS[key].is_installed()]
    with tempfile.TemporaryDirectory(prefix="coda-benchmark-") as folder:
        job = prepare(Job(Path(folder), trainable, items), options)
        measured = race(job, keys, repetitions, passes, lambda what: print(f"  {items} {what}", file=sys.stderr))
        size = job.tflite.stat().st_size
    return [
        Cost(items, trainable, key, size, median(m.peak_rss_bytes), median(m.step_s)) for key, m in measured.items()
    ]


def _table(costs: list[Cost]) -> Table:
    table = Table(box=box.MARKDOWN)
    for name in ("trains", "items", "contender", "file MB", "peak MB", "step ms"):
        table.add_column(name, justify="left" if name in ("trains", "contender") else "right")
    small = {(cost.trainable, cost.contender): cost for cost in costs if cost.items == SMALL}
    for cost in costs:
        base = None if cost.items == SMALL else small[cost.trainable, cost.contender]
        table.add_row(
            cost.trainable,
            f"{cost.items:,}",
            CONTENDERS[cost.contender].title,
            f"{cost.file_bytes / 1e6:.2f}{_growth(cost, base, 'file_bytes')}",
            f"{cost.peak_rss_bytes / 1e6:.0f}{_growth(cost, base, 'peak_rss_bytes')}",
            f"{cost.step_s * 1e3:.3f}{_growth(cost, base, 'step_s')}",
        )
    return table


def _growth(cost: Cost, base: Cost | None, figure: str) -> str:
    if base is None:
        return ""
    growth = getattr(cost, figure) / getattr(base, figure) - 1
    return f" {growth:+.1%}" + (" [green]✓[/green]" if growth <= GOAL_GROWTH else " [red]✗[/red]")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalogue", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--passes", type=int, default=20, help="timed passes of each turn (%(default)s)")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
