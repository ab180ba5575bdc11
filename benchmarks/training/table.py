"""The comparison as one table a trainable set, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training.contenders import CONTENDERS, RUNTIMES
from benchmarks.training.figures import GOAL_OVERHEAD, GOALS, METRICS, RIVALS, Ratio, ratios
from benchmarks.training.job import Job
from benchmarks.training.race import Measured, check_losses

# By metric: its column, the factor to that unit, and digits behind the point.
SHOWN = {"step_s": ("step ms", 1e3, 3), "process_s": ("process s", 1.0, 2), "peak_rss_bytes": ("peak MB", 1e-6, 0)}


@dataclass(frozen=True)
class Comparison:
    """One job, raced.

    Attributes:
        job: What was trained.
        measured: By contender; without those that are not installed.
        overheads: Share of time that the Trainer adds to bare calls, by runtime; one value a repetition.
    """

    job: Job
    measured: Mapping[str, Measured]
    overheads: Mapping[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a contender that is not installed is null."""
        return {
            "job": self.job.to_dict(),
            "measured": {key: self.measured[key].to_dict() if key in self.measured else None for key in CONTENDERS},
            "ratios": {
                key: {f"{metric}:{rival}": ratio.times for (metric, rival), ratio in ratios(self.measured, key).items()}
                for key in self.measured
            },
            "goals": {f"{metric}:{rival}": goal for (metric, rival), goal in GOALS.items()},
            "trainer_overhead": dict(self.overheads),
            "largest_loss_difference": self.loss_difference,
        }

    @property
    def loss_difference(self) -> float:
        """The largest between two contenders in one step."""
        return check_losses({key: m.losses for key, m in self.measured.items()})


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, and what stands under it."""
    job, trains = comparison.job, {"head": "Frozen tables", "all": "Everything trains"}
    work = f"{job.steps} steps of {job.batch_size} samples, {job.items} items"
    console.print(f"{job.model}, {trains[job.trainable].lower()}: {work}\n")
    table = Table(box=box.MARKDOWN)
    table.add_column("contender", no_wrap=True)
    for metric in METRICS:
        table.add_column(SHOWN[metric][0], justify="right")
        for rival in RIVALS:
            table.add_column(f"{CONTENDERS[rival].title.split()[0]} x", justify="right")
    for key, contender in CONTENDERS.items():
        absent = "" if key in comparison.measured else " (not installed)"
        table.add_row(contender.title + absent, *cells(comparison.measured, key))
    goals = [[f"{GOALS[metric, rival]}" for rival in RIVALS] for metric in METRICS]
    table.add_row("goal of the Trainer", *[cell for pair in goals for cell in ("", *pair)])
    console.print(table)
    for runtime, shares in comparison.overheads.items():
        share = median(shares)
        verdict = _mark(share <= GOAL_OVERHEAD)
        console.print(f"Trainer over bare calls, {RUNTIMES[runtime]}: {share:+.1%} (goal {GOAL_OVERHEAD:.0%}){verdict}")
    console.print(f"Losses of the same step differ by {comparison.loss_difference:.1g} at most.\n")


def cells(measured: Mapping[str, Measured], key: str) -> list[str]:
    """Each metric of a contender, followed by how many times as much each rival needs."""
    if key not in measured:
        return []
    times = ratios(measured, key)
    cells = []
    for metric in METRICS:
        _, factor, digits = SHOWN[metric]
        cells.append(f"{median(getattr(measured[key], metric)) * factor:.{digits}f}")
        cells += [_times(times.get((metric, rival))) for rival in RIVALS]
    return cells


def _times(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.times:.1f}{_mark(ratio.met)}"


def _mark(met: bool | None) -> str:
    return {True: " [green]✓[/green]", False: " [red]✗[/red]", None: ""}[met]
