"""The charts of a run's report: quality by device, and time, bytes, memory and energy by phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from profiling import units
from profiling.metrics import ROUND
from profiling.metrics import by_phase as phases_of
from profiling.page import figure
from profiling.plots import Axis, Bar, Dot, Line, Note, Row, row_chart
from profiling.record import PHASES, PhaseRecord, RoundRecord

MOST_ROWS = 40
_ARMS = (("cloud", "s-cloud", "ring"), ("local", "s-local", "diamond"), ("coda", "s-coda", "disc"))
_ARM_NAMES = {"cloud": "cloud model (h0)", "local": "tuned on local samples only", "coda": "CoDA"}

PhaseValues = Mapping[str, Sequence[PhaseRecord]]
"""For each phase's name, its records in all rounds: one a round, repeated phases of a round added up."""


def by_phase(rounds: Sequence[RoundRecord]) -> dict[str, list[PhaseRecord]]:
    """Phases of level 0 by name, in a round's order."""
    found: dict[str, list[PhaseRecord]] = {}
    for record in rounds:
        for name, phase in phases_of(record).items():
            if name != ROUND:
                found.setdefault(name, []).append(phase)
    order = {name: place for place, name in enumerate(PHASES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def style(phase: str) -> str:
    """CSS class of a phase: blues talk to the cloud, oranges compute."""
    return f"s-{phase}" if phase in PHASES else "s-other"


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that exist; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def auc_figure(devices: Sequence[Mapping[str, Any]], means: Mapping[str, float | None]) -> str:
    """One row a device, sorted by gain: test AUC of the cloud's, the local and the CoDA model."""
    rows = [_auc_row(str(d["device"]), d["auc"]) for d in devices[:MOST_ROWS]]
    rows.append(_auc_row("mean", means, strong=True))
    values = [mark.at for row in rows for mark in row.marks if isinstance(mark, Dot)]
    margin = max((max(values) - min(values)) * 0.05, 0.002)
    low, high = max(0.0, min(values) - margin), min(1.0, max(values) + margin)
    axis = Axis("test AUC", low, high, lambda v: f"{v:.3f}")
    legend = [(css, shape, _ARM_NAMES[arm]) for arm, css, shape in _ARMS]
    return figure(lambda width: row_chart(rows, axis, width=width, describe="Test AUC by device"), legend)


def _auc_row(name: str, auc: Mapping[str, float | None], strong: bool = False) -> Row:
    marks: list[Line | Dot] = []
    cloud, coda = auc.get("cloud"), auc.get("coda")
    if cloud is not None and coda is not None:
        marks.append(Line(cloud, coda))
    for arm, css, shape in _ARMS:
        value = auc.get(arm)
        if value is not None:
            marks.append(Dot(value, css, f"{name}, {_ARM_NAMES[arm]}: {value:.4f}", shape))  # type: ignore[arg-type]
    return Row(name, tuple(marks), strong)


def time_figure(rounds: Sequence[RoundRecord]) -> str:
    """One row a round: wall time, stacked by phase."""
    rows = [_time_row(record) for record in rounds[:MOST_ROWS]]
    longest = max(record.totals.elapsed_s for record in rounds[:MOST_ROWS])
    axis = Axis("wall time (s)", 0, longest * 1.001 or 1.0, lambda v: f"{v:g}")
    names = list(by_phase(rounds))
    legend = [(style(name), "square", name) for name in names]
    return figure(lambda width: row_chart(rows, axis, width=width, describe="Wall time by phase"), legend)


def _time_row(record: RoundRecord) -> Row:
    marks: list[Bar | Note] = []
    at = 0.0
    for phase in record.phases:
        if phase.level == 0:
            title = f"{record.device}, {phase.name}: {units.seconds(phase.elapsed_s)}"
            marks.append(Bar(at, at + phase.elapsed_s, style(phase.name), title))
            at += phase.elapsed_s
    return Row(record.device, (*marks, Note(at, units.seconds(at))))


def traffic_figure(phases: PhaseValues) -> str:
    """One row a phase: mean MQTT bytes up and down."""
    rows, highest = [], 0.0
    for name, records in phases.items():
        values = {"up": mean([r.mqtt_up_bytes for r in records]), "down": mean([r.mqtt_down_bytes for r in records])}
        marks: list[Bar | Note] = []
        for lane, (way, value) in enumerate(values.items()):
            if value:
                marks.append(Bar(0, value, f"s-{way}", f"{name}, {way}: {units.size(value)}", lane, 2))
                marks.append(Note(value, units.size(value), lane, 2))
                highest = max(highest, value)
        rows.append(Row(name, tuple(marks)))
    axis = Axis("MQTT bytes a round, mean over devices", 0, highest * 1.001 or 1.0, lambda v: units.tick(units.size(v)))
    legend = [("s-up", "square", "sent by the device"), ("s-down", "square", "received")]
    return figure(lambda w: row_chart(rows, axis, width=w, row_height=38, describe="MQTT bytes by phase"), legend)


def memory_figure(phases: PhaseValues) -> str:
    """One row a phase: peak resident memory, median and range over rounds."""
    return _range_figure(phases, lambda p: p.peak_rss_bytes, 1e6, "peak resident memory (MB)", "Peak memory by phase")


def energy_figure(phases: PhaseValues) -> str:
    """One row a phase: energy, median and range over rounds."""
    return _range_figure(phases, lambda p: p.energy_mj, 1e3, "energy (J)", "Energy by phase")


def _range_figure(
    phases: PhaseValues, value: Callable[[PhaseRecord], float | None], unit: float, label: str, describe: str
) -> str:
    rows, highest = [], 0.0
    for name, records in phases.items():
        known = [amount / unit for amount in map(value, records) if amount is not None]
        if known:
            low, middle, high = min(known), median(known), max(known)
            title = f"{name}: median {middle:.3g}, {low:.3g} to {high:.3g}"
            marks = (Line(low, high, "range"), Dot(middle, "s-coda", title), Note(high, f"{middle:.3g}"))
            rows.append(Row(name, marks))
            highest = max(highest, high)
    axis = Axis(label, 0, highest * 1.02 or 1.0, lambda v: f"{v:g}")
    legend = [("s-coda", "disc", "median; the line spans smallest to largest")]
    return figure(lambda width: row_chart(rows, axis, width=width, describe=describe), legend)
