"""A run's report as Markdown, for a README or a paper: one table of costs, one of devices, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profiling import units
from profiling.metrics import METRICS, ROUND, by_phase
from profiling.record import RoundRecord
from profiling.run import Run
from profiling.statistics import Estimate, estimate, settled
from profiling.summary import device_row, mapping


def to_markdown(run: Run, warm_up: int = 1) -> str:
    """The report. Each device's first ``warm_up`` rounds are left out where it has more."""
    rounds = settled(run.rounds, warm_up)
    data = mapping(run.summary, "data")
    parts = [f"## CoDA Edge on {_escape(str(data.get('name', 'unnamed data')))}", ""]
    if data.get("synthetic"):
        parts += ["**Synthetic data: scores say that the machinery works, not how well it does.**", ""]
    emulated = sorted({what for record in rounds for what in record.emulated})
    if emulated:
        parts += [f"**Emulated ({', '.join(emulated)}): times and energies are no board's.**", ""]
    parts += [*_costs(run, rounds), *_energy(run), *_devices(run), "### Not measured", ""]
    reasons = {name: why for record in reversed(rounds) for name, why in record.unmeasured.items()}
    reasons |= {name: str(why) for name, why in mapping(run.summary, "unmeasured").items()}
    parts += [f"- {_escape(name)}: {_escape(why)}" for name, why in sorted(reasons.items())] or ["Nothing is missing."]
    return "\n".join(parts) + "\n"


def _costs(run: Run, rounds: Sequence[RoundRecord]) -> list[str]:
    board = mapping(run.summary, "board").get("model", "an unknown board")
    if not rounds:
        return ["No round was recorded.", ""]
    phases = list(dict.fromkeys(name for record in rounds for name in by_phase(record) if name != ROUND))
    rows = [
        [phase, *(_cell(estimate(rounds, metric, phase), metric.text) for metric in METRICS)]
        for phase in [*phases, ROUND]
    ]
    head = f"{len(rounds)} rounds on {board}; medians, and their 95% bootstrap intervals where there are enough rounds."
    return [head, "", *_table(["phase", *(metric.label for metric in METRICS)], rows), ""]


def _energy(run: Run) -> list[str]:
    lines = []
    for source in dict.fromkeys(e.source for record in run.rounds for e in record.energies):
        bar = "error not stated" if source.relative_u95 is None else f"±{source.relative_u95:.0%} at 95%"
        lines.append(f"- Energy by {source.name}: {source.kind}, scope {source.scope}, {bar}. {source.note}".rstrip())
    return [*lines, ""] if lines else []


def _devices(run: Run) -> list[str]:
    rows = []
    for values in run.summary["devices"]:
        row = device_row(values)
        auc = row["auc"]
        samples = [units.count(row[f"samples_{name}"]) for name in ("local", "matched", "kept")]
        scores = [units.fraction(auc[arm]) for arm in ("cloud", "local", "coda")]
        rows.append([_escape(row["device"]), *samples, *scores, _escape(row["decision"])])
    heads = ["device", "local", "matched", "kept", "AUC cloud", "AUC local", "AUC CoDA", "gate"]
    return [*_table(heads, rows), ""] if rows else []


def _cell(value: Estimate, text: Callable[[float | None], str]) -> str:
    if value.low is None or value.high is None:
        return text(value.median)
    return f"{text(value.median)} [{text(value.low)}, {text(value.high)}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in [heads, rule, *rows]]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
