"""Energy of a round's phases, by every sensor that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hardware.sensor import Sensor
from profiling.energy import INSUFFICIENT
from profiling.energy_record import EnergyRecord, EnergySource
from profiling.idle import Idle, net_of_idle
from profiling.sampler import Probe
from profiling.tracks import Mark, Track, follow


class EnergyLedger:
    """Follows sensors over phases.

    Args:
        sensors: The first one tells the phases' energies, all tell the round's.
        reasons: Why other sensors are absent, by name.
        idle: Idle baselines by the sensors' names.
    """

    def __init__(self, sensors: Sequence[Sensor], reasons: Mapping[str, str], idle: Mapping[str, Idle]) -> None:
        self._tracks = [follow(sensor) for sensor in sensors]
        self._idle = idle
        self._absent = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        self._spans: list[tuple[list[Mark], list[Mark]]] = []
        self._without: dict[str, list[str]] = {}

    @property
    def probes(self) -> list[Probe]:
        """What has to be sampled over time."""
        return [track.probe for track in self._tracks if track.probe is not None]

    @property
    def source(self) -> EnergySource | None:
        """The sensor behind the phases' energies."""
        return _source(self._tracks[0]) if self._tracks else None

    @property
    def unmeasured(self) -> str | None:
        """Why there is no energy, or why some phases have none; None where all have one."""
        if not self._tracks:
            return self._absent or "no energy sensor was given to the profiler"
        return "; ".join(f"{why} (in {', '.join(names)})" for why, names in self._without.items()) or None

    def mark(self, at_s: float) -> list[Mark]:
        """The edge of a window at ``at_s``, which is now."""
        return [track.mark(at_s) for track in self._tracks]

    def close(self, name: str, level: int, begins: list[Mark], ends: list[Mark]) -> dict[str, float | None]:
        """The energy of a phase that has ended, as fields of its record."""
        if level == 0:
            self._spans.append((begins, ends))
        if not self._tracks:
            return {}
        energy = self._tracks[0].energy([(begins[0], ends[0])])
        if energy.energy_mj is None:
            names = self._without.setdefault(_brief(energy.reason or "no reading"), [])
            names += [name] if name not in names else []
        return {"energy_mj": energy.energy_mj, "energy_u95_mj": energy.u95_mj}

    def records(self) -> tuple[EnergyRecord, ...]:
        """The phases of level 0 together, by each sensor."""
        return tuple(self._record(place, track) for place, track in enumerate(self._tracks))

    def _record(self, place: int, track: Track) -> EnergyRecord:
        energy = track.energy([(begins[place], ends[place]) for begins, ends in self._spans])
        idle = self._idle.get(track.source.name)
        net_mj, net_u95_mj = net_of_idle(energy, idle, track.source.relative_u95)
        return EnergyRecord(
            source=_source(track),
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
            faults=track.faults,
            reason=energy.reason,
        )


def _brief(reason: str) -> str:
    """One wording for all phases that were too short."""
    return INSUFFICIENT if reason.startswith(INSUFFICIENT) else reason


def _source(track: Track) -> EnergySource:
    return EnergySource(**track.source.to_dict())
