"""Makes a recording of what a profiler has sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from profiling.ledger import ClosedPhase, EnergyLedger, source_of
from profiling.record import RoundRecord
from profiling.recording import RecordedPhase, RecordedSeries, RecordedSource, Recording
from profiling.series import Series


def make_recording(
    record: RoundRecord, ledger: EnergyLedger, gauges: Sequence[Series], *, synthetic: bool = False
) -> Recording:
    """The raw samples behind a round's record.

    Args:
        record: The round's.
        ledger: Its sensors and phases.
        gauges: What was sampled beside the sensors.
        synthetic: Whether the round was made up.
    """
    phases = sorted(ledger.closed, key=lambda phase: (phase.begin.at_s, phase.level))
    origin_s = phases[0].begin.at_s if phases else 0.0
    return Recording(
        device=record.device,
        round_id=record.round_id,
        started_unix_s=record.started_unix_s,
        board=record.board,
        synthetic=synthetic,
        sources=tuple(
            RecordedSource(source_of(track), track.counts, track.latency_s, track.step_mj, track.still_s)
            for track in ledger.tracks
        ),
        phases=tuple(_phase(phase, ledger, origin_s) for phase in phases),
        series=tuple(_series(series, origin_s) for series in [*ledger.series, *gauges] if len(series)),
    )


def _phase(phase: ClosedPhase, ledger: EnergyLedger, origin_s: float) -> RecordedPhase:
    names = [track.source.name for track in ledger.tracks]
    marks = list(zip(names, phase.begin.marks, phase.end.marks, strict=True))
    begin_mj = {name: begin.counted_mj for name, begin, _ in marks}
    # A counter that lost count within the phase has no difference, and so no reading at the end.
    end_mj = {name: end.counted_mj for name, begin, end in marks if begin.breaks == end.breaks}
    return RecordedPhase(
        phase.name,
        phase.level,
        phase.begin.at_s - origin_s,
        phase.end.at_s - origin_s,
        _known(begin_mj),
        _known(end_mj),
    )


def _known(readings: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in readings.items() if value is not None}


def _series(series: Series, origin_s: float) -> RecordedSeries:
    times_s, values = series.copy()
    return RecordedSeries(series.name, tuple(at_s - origin_s for at_s in times_s), tuple(values))
