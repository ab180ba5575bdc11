"""All comparisons in one table, a row for each Trainer, and how many rows meet each goal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.training.contenders import CONTENDERS, RUNTIMES
from benchmarks.training.figures import GOAL_OVERHEAD, GOALS, METRICS, RIVALS, ratios
from benchmarks.training.table import SHOWN, Comparison, cells


def summarise(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print the table; a goal is named with the rows that miss it."""
    table = Table(box=box.MARKDOWN)
    for name in ("model", "trains", "runtime"):
        table.add_column(name, no_wrap=True)
    for metric in METRICS:
        table.add_column(SHOWN[metric][0], justify="right")
        for rival in RIVALS:
            table.add_column(f"{CONTENDERS[rival].title.split()[0]} x", justify="right")
    rows = [(c, runtime) for c in comparisons for runtime in RUNTIMES if f"trainer-{runtime}" in c.measured]
    for comparison, runtime in rows:
        job = comparison.job
        figures = cells(comparison.measured, f"trainer-{runtime}")
        table.add_row(job.model, job.trainable, RUNTIMES[runtime], *figures)
    goals = [cell for metric in METRICS for cell in ("", *(f"{GOALS[metric, rival]}" for rival in RIVALS))]
    table.add_row("goal", "", "", *goals)
    console.print(table)
    for metric, rival in GOALS:
        console.print(_verdict(rows, metric, rival), soft_wrap=True)
    shares = {RUNTIMES[r]: [median(c.overheads[r]) for c in comparisons if r in c.overheads] for r in RUNTIMES}
    for title, values in shares.items():
        if values:
            met = sum(value <= GOAL_OVERHEAD for value in values)
            span = f"from {min(values):+.1%} to {max(values):+.1%}"
            count = f"{met} of {len(values)} within {GOAL_OVERHEAD:.0%}"
            console.print(f"Trainer over bare calls, {title}: {count}, {span}")


def _verdict(rows: Sequence[tuple[Comparison, str]], metric: str, rival: str) -> str:
    """In one line: how many rows reach a goal, and how near the others are."""
    found = [ratios(c.measured, f"trainer-{runtime}").get((metric, rival)) for c, runtime in rows]
    known = [ratio for ratio in found if ratio is not None]
    met = [ratio for ratio in known if ratio.met]
    span = f", from {min(r.times for r in known):.1f} to {max(r.times for r in known):.1f} times" if known else ""
    name = SHOWN[metric][0].rpartition(" ")[0]
    return f"{name}, {CONTENDERS[rival].title}: {len(met)} of {len(known)} reach {GOALS[metric, rival]} times{span}"
