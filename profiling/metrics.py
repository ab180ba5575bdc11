"""The costs that reports compare: how each is read from a phase, named, and written for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiling import units
from profiling.record import PHASES, PhaseRecord, RoundRecord, total

ROUND = "round"
"""Name of the whole round where a phase is expected."""


@dataclass(frozen=True)
class Metric:
    """One cost; more of it is worse.

    Attributes:
        name: With its unit, as in exports.
        label: For a person.
        read: Reads it from a phase; None where it was not measured.
        text: Writes it with a unit.
    """

    name: str
    label: str
    read: Callable[[PhaseRecord], float | None]
    text: Callable[[float | None], str]


METRICS = (
    Metric("elapsed_s", "wall time", lambda p: p.elapsed_s, units.seconds),
    Metric("cpu_s", "processor time", lambda p: p.cpu_user_s + p.cpu_system_s, units.seconds),
    Metric("peak_rss_bytes", "peak memory", lambda p: p.peak_rss_bytes, units.size),
    Metric("mqtt_up_bytes", "MQTT bytes up", lambda p: p.mqtt_up_bytes, units.size),
    Metric("mqtt_down_bytes", "MQTT bytes down", lambda p: p.mqtt_down_bytes, units.size),
    Metric("energy_mj", "energy", lambda p: p.energy_mj, units.energy),
)


def by_phase(record: RoundRecord) -> dict[str, PhaseRecord]:
    """A round's phases of level 0 by name, in a round's order, a repeated one added up; the whole round comes last."""
    rows: dict[str, list[PhaseRecord]] = {}
    for phase in record.phases:
        if phase.level == 0:
            rows.setdefault(phase.name, []).append(phase)
    order = {name: place for place, name in enumerate(PHASES)}
    names = sorted(rows, key=lambda name: order.get(name, len(order)))
    return {**{name: total(name, rows[name]) for name in names}, ROUND: record.totals}


def values(rounds: Sequence[RoundRecord], metric: Metric, phase: str = ROUND) -> list[float]:
    """The metric in every round that measured it, in the rounds' order."""
    found = [by_phase(record).get(phase) for record in rounds]
    read = [metric.read(row) for row in found if row is not None]
    return [float(value) for value in read if value is not None]
