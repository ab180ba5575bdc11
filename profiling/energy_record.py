"""The parts of a round record that speak of energy and of what measuring costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnergySource:
    """A sensor, as `hardware.sensor.Source` describes it."""

    name: str
    kind: str
    scope: str
    relative_u95: float | None = None
    note: str = ""


@dataclass(frozen=True)
class EnergyRecord:
    """A whole round's energy as one sensor saw it.

    Attributes:
        source: The sensor.
        window_s: Seconds of the phases that it covers.
        gross_mj: All energy in its scope; None where there is no honest number, and ``reason`` says why.
        u95_mj: Half-width of its 95% interval.
        net_mj: Gross less the idle baseline over the same time; None without a baseline.
        net_u95_mj: Half-width of its 95% interval.
        idle_mw: The baseline.
        idle_u95_mw: Half-width of its 95% interval, the sensor's proportional error left out.
        samples: Samples in the phases; 0 for a counter.
        rate_hz: Samples a second that were achieved; None for a counter.
        gap_s: Seconds in stretches without samples.
        faults: Readings that failed.
        reason: Why there is no number.
    """

    source: EnergySource
    window_s: float
    gross_mj: float | None = None
    u95_mj: float | None = None
    net_mj: float | None = None
    net_u95_mj: float | None = None
    idle_mw: float | None = None
    idle_u95_mw: float | None = None
    samples: int = 0
    rate_hz: float | None = None
    gap_s: float = 0.0
    faults: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Overhead:
    """What the profiler itself cost within the round; it is part of the round's numbers.

    Attributes:
        cpu_s: Processor seconds of its thread and of its work at the phases' edges.
        cpu_share: The same as a share of one processor over the phases' wall time.
        energy_mj: Net energy times its share of the round's processor time; None without a net energy.
    """

    cpu_s: float
    cpu_share: float
    energy_mj: float | None = None
