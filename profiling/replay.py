"""Plays a recorded round back: as a meter, and through the same integration that the round itself went through."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from hardware.sensor import Kind, Scope, Source, StreamSensor
from profiling.energy import Energy, integrate, refuse_still
from profiling.energy_record import EnergyRecord
from profiling.errors import RunError
from profiling.idle import Idle
from profiling.ledger import energy_record
from profiling.record import RoundRecord
from profiling.recording import RecordedPhase, RecordedSource, Recording
from profiling.run import Run
from profiling.tracks import Mark, count_spans


class ReplayMeter(StreamSensor):
    """A recorded power, given out again as time passes.

    Args:
        recording: The round.
        name: Name of the source; by default the first that has a power.
        clock: Monotonic seconds; the recording begins when the meter is made.

    Raises:
        ValueError: If the recording has no such power.
    """

    def __init__(
        self, recording: Recording, name: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        prefix = f"power_mw:{name}" if name else "power_mw:"
        series = [s for s in recording.series if s.name == prefix or (not name and s.name.startswith(prefix))]
        if not series:
            have = [s.name for s in recording.series]
            raise ValueError(f"recording of {recording.round_id} has no power of {name or 'any source'}; it has {have}")
        name = series[0].name.removeprefix("power_mw:")
        recorded = next(source for source in recording.sources if source.source.name == name)
        self.source = replace(_source(recorded), name=f"replay-{name}")
        self.latency_s = recorded.latency_s
        self.still_s = recorded.still_s
        self._samples = list(zip(series[0].times_s, series[0].values, strict=True))
        self._clock = clock
        self._origin_s = clock() - min(self._samples[0][0], 0.0) if self._samples else clock()
        self._next = 0

    @property
    def finished(self) -> bool:
        """Whether all has been given out."""
        return self._next >= len(self._samples)

    def drain(self) -> list[tuple[float, float]]:
        """Samples whose time has come; see `StreamSensor.drain`."""
        now_s, begin = self._clock() - self._origin_s, self._next
        while self._next < len(self._samples) and self._samples[self._next][0] <= now_s:
            self._next += 1
        return [(self._origin_s + at_s, power_mw) for at_s, power_mw in self._samples[begin : self._next]]


def recompute(recording: Recording, record: RoundRecord) -> RoundRecord:
    """The record with every energy computed again from the raw samples; idle baselines are kept and applied anew."""
    phases = list(record.phases)
    if recording.sources and len(recording.phases) == len(phases):
        for place, window in enumerate(recording.phases):
            energy = phase_energy(recording, recording.sources[0], [window])
            phases[place] = replace(phases[place], energy_mj=energy.energy_mj, energy_u95_mj=energy.u95_mj)
    level_0 = [phase for phase in recording.phases if phase.level == 0]
    known = {energy.source.name: energy for energy in record.energies}
    energies = []
    for recorded in recording.sources:
        before = known.get(recorded.source.name)
        energy = phase_energy(recording, recorded, level_0)
        faults = before.faults if before is not None else 0
        energies.append(energy_record(recorded.source, energy, _idle(before), faults))
    return replace(record, phases=tuple(phases), energies=tuple(energies))


def recompute_run(run: Run) -> Run:
    """The run with the energies of every round that has raw samples computed again.

    Raises:
        RunError: If no round has any.
    """
    recordings = {recording.round_id: recording for recording in run.recordings}
    rounds = [
        recompute(recordings[record.round_id], record) if record.round_id in recordings else record
        for record in run.rounds
    ]
    if not any(record.round_id in recordings for record in run.rounds):
        raise RunError(f"{run.path}: no round has raw samples to compute from")
    return replace(run, rounds=tuple(rounds))


def phase_energy(recording: Recording, recorded: RecordedSource, windows: Sequence[RecordedPhase]) -> Energy:
    """A source's energy over recorded windows that do not overlap."""
    name, bar = recorded.source.name, recorded.source.relative_u95
    edges = [(window.begin_s, window.end_s) for window in windows]
    if recorded.counts:
        told = recording.find(f"energy_mj:{name}")
        spans = [(Mark(w.begin_s, w.begin_mj.get(name)), Mark(w.end_s, w.end_mj.get(name))) for w in windows]
        energy = count_spans(spans, relative_u95=bar, latency_s=recorded.latency_s, step_mj=recorded.step_mj)
        if energy.energy_mj is None or told is None:
            return energy
        return refuse_still(energy, told.times_s, told.values, edges, recorded.still_s)
    series = recording.find(f"power_mw:{name}")
    times_s, powers_mw = (series.times_s, series.values) if series else ((), ())
    latency_s, still_s = recorded.latency_s, recorded.still_s
    return integrate(times_s, powers_mw, edges, relative_u95=bar, latency_s=latency_s, still_s=still_s)


def _idle(known: EnergyRecord | None) -> Idle | None:
    if known is None or known.idle_mw is None or known.idle_u95_mw is None:
        return None
    return Idle(known.idle_mw, known.idle_u95_mw, 0.0)


def _source(recorded: RecordedSource) -> Source:
    source = recorded.source
    return Source(source.name, Kind(source.kind), Scope(source.scope), source.relative_u95, source.note)
