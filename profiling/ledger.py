"""Energy of a round's phases, by every sensor that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hardware.sensor import Sensor
from profiling.energy import INSUFFICIENT, Energy
from profiling.energy_record import EnergyRecord, EnergySource
from profiling.idle import Idle, net_of_idle
from profiling.sampler import Probe
from profiling.series import Series
from profiling.tracks import Mark, Track, follow


@dataclass(frozen=True)
class Edge:
    """The edge of a window: monotonic seconds, and what each track saw then."""

    at_s: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class ClosedPhase:
    """A phase that has ended."""

    name: str
    level: int
    begin: Edge
    end: Edge


class EnergyLedger:
    """Follows sensors over phases.

    Args:
        sensors: The first one tells the phases' energies, all tell the round's.
        reasons: Why other sensors are absent, by name.
        idle: Idle baselines by the sensors' names.

    Attributes:
        tracks: One a sensor.
        closed: Phases in the order they ended.
    """

    def __init__(self, sensors: Sequence[Sensor], reasons: Mapping[str, str], idle: Mapping[str, Idle]) -> None:
        self.tracks: tuple[Track, ...] = tuple(follow(sensor) for sensor in sensors)
        self.closed: list[ClosedPhase] = []
        self._idle = idle
        self._absent = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        self._without: dict[str, list[str]] = {}

    @property
    def probes(self) -> list[Probe]:
        """What has to be sampled over time."""
        return [track.probe for track in self.tracks if track.probe is not None]

    @property
    def series(self) -> list[Series]:
        """What the sensors told over time."""
        return [track.series for track in self.tracks]

    @property
    def source(self) -> EnergySource | None:
        """The sensor behind the phases' energies."""
        return source_of(self.tracks[0]) if self.tracks else None

    @property
    def unmeasured(self) -> str | None:
        """Why there is no energy, or why some phases have none; None where all have one."""
        if not self.tracks:
            return self._absent or "no energy sensor was given to the profiler"
        return "; ".join(f"{why} (in {', '.join(names)})" for why, names in self._without.items()) or None

    def mark(self, at_s: float) -> Edge:
        """The edge of a window at ``at_s``, which is now."""
        return Edge(at_s, tuple(track.mark(at_s) for track in self.tracks))

    def close(self, name: str, level: int, begin: Edge, end: Edge) -> dict[str, float | None]:
        """The energy of a phase that has ended, as fields of its record."""
        self.closed.append(ClosedPhase(name, level, begin, end))
        if not self.tracks:
            return {}
        energy = self.tracks[0].energy([(begin.marks[0], end.marks[0])])
        if energy.energy_mj is None:
            names = self._without.setdefault(_brief(energy.reason or "no reading"), [])
            names += [name] if name not in names else []
        return {"energy_mj": energy.energy_mj, "energy_u95_mj": energy.u95_mj}

    def records(self) -> tuple[EnergyRecord, ...]:
        """The phases of level 0 together, by each sensor."""
        phases = [phase for phase in self.closed if phase.level == 0]
        found = []
        for place, track in enumerate(self.tracks):
            energy = track.energy([(phase.begin.marks[place], phase.end.marks[place]) for phase in phases])
            found.append(energy_record(source_of(track), energy, self._idle.get(track.source.name), track.faults))
        return tuple(found)


def energy_record(source: EnergySource, energy: Energy, idle: Idle | None, faults: int) -> EnergyRecord:
    """A round's energy as one sensor saw it: gross and, with a baseline, net."""
    net_mj, net_u95_mj = net_of_idle(energy, idle, source.relative_u95)
    return EnergyRecord(
        source=source,
        window_s=energy.window_s,
        gross_mj=energy.energy_mj,
        u95_mj=energy.u95_mj,
        net_mj=net_mj,
        net_u95_mj=net_u95_mj,
        idle_mw=idle.power_mw if idle else None,
        idle_u95_mw=idle.u95_mw if idle else None,
        samples=energy.samples,
        rate_hz=energy.rate_hz,
        gap_s=energy.gap_s,
        faults=faults,
        reason=energy.reason,
    )


def source_of(track: Track) -> EnergySource:
    """The track's sensor, as records cite it."""
    return EnergySource(**track.source.to_dict())


def _brief(reason: str) -> str:
    """One wording for all phases that were too short."""
    return INSUFFICIENT if reason.startswith(INSUFFICIENT) else reason
