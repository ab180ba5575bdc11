"""A recording as a trace that https://ui.perfetto.dev opens: phases as slices, samples as counter tracks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from profiling.recording import RecordedSeries, Recording

_US = 1e6
_THREAD = 1


def to_perfetto(recordings: Sequence[Recording]) -> str:
    """The recordings as a JSON trace, one process a device, on a common wall clock."""
    origin_s = min((recording.started_unix_s for recording in recordings), default=0.0)
    events: list[dict[str, Any]] = []
    for process, recording in enumerate(recordings, start=1):
        offset_us = (recording.started_unix_s - origin_s) * _US
        events += _events(recording, process, offset_us)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"))


def _events(recording: Recording, process: int, offset_us: float) -> Iterator[dict[str, Any]]:
    name = f"{recording.device} ({recording.round_id})" + (" synthetic" if recording.synthetic else "")
    yield {"ph": "M", "name": "process_name", "pid": process, "tid": _THREAD, "args": {"name": name}}
    yield {"ph": "M", "name": "thread_name", "pid": process, "tid": _THREAD, "args": {"name": "phases"}}
    for phase in recording.phases:
        begin_us, long_us = offset_us + phase.begin_s * _US, (phase.end_s - phase.begin_s) * _US
        yield {"ph": "X", "name": phase.name, "pid": process, "tid": _THREAD, "ts": begin_us, "dur": long_us}
    for series in recording.series:
        for at_s, value in _points(series):
            args = {"value": value}
            yield {"ph": "C", "name": _track(series.name), "pid": process, "ts": offset_us + at_s * _US, "args": args}


def _points(series: RecordedSeries) -> Iterator[tuple[float, float]]:
    """The samples; of a counter, its rate from each sample to the next, which is what a person wants to see."""
    pairs = list(zip(series.times_s, series.values, strict=True))
    if not series.name.startswith(("energy_mj", "cpu_s", "mqtt_bytes")):
        yield from pairs
        return
    for (begin_s, before), (end_s, after) in pairwise(pairs):
        if end_s > begin_s:
            yield begin_s, (after - before) / (end_s - begin_s)


def _track(name: str) -> str:
    kind, _, source = name.partition(":")
    rates = {"energy_mj": "power_mw", "cpu_s": "cpu_share", "mqtt_bytes": "mqtt_bytes_per_s"}
    return f"{rates.get(kind, kind)} {source}".strip()
