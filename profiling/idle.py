"""The idle baseline: what the machine draws while it does nothing, so that a round's own share can be told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware.sensor import Sensor
from profiling.energy import Energy
from profiling.sampler import DEFAULT_HZ, Sampler
from profiling.tracks import follow

DEFAULT_IDLE_S = 10.0


@dataclass(frozen=True)
class Idle:
    """Idle power as one sensor saw it.

    Attributes:
        power_mw: Its mean.
        u95_mw: Half-width of its 95% interval, the sensor's own proportional error left out: that one is shared with
            the round and taken into account there.
        window_s: How long it was watched.
    """

    power_mw: float
    u95_mw: float
    window_s: float


def measure_idle(
    sensors: Sequence[Sensor],
    duration_s: float = DEFAULT_IDLE_S,
    *,
    hz: float = DEFAULT_HZ,
    rest: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Idle]:
    """Watch the sensors while this process rests; others must rest too, which the caller sees to.

    Args:
        sensors: What to watch.
        duration_s: How long.
        hz: Samples a second.
        rest: Does nothing for so many seconds.
        clock: Monotonic seconds.

    Returns:
        The baseline by the source's name. A sensor that gave too little is left out.
    """
    tracks = [follow(sensor) for sensor in sensors]
    sampler = Sampler([track.probe for track in tracks if track.probe], hz, clock)
    sampler.hold()
    try:
        begins = [track.mark(clock()) for track in tracks]
        rest(duration_s)
        ends = [track.mark(clock()) for track in tracks]
    finally:
        sampler.release()
        sampler.stop()
    found = {}
    for track, begin, end in zip(tracks, begins, ends, strict=True):
        energy = track.energy([(begin, end)])
        if energy.energy_mj is not None and energy.random_u95_mj is not None:
            span_s = energy.window_s
            found[track.source.name] = Idle(energy.energy_mj / span_s, energy.random_u95_mj / span_s, span_s)
    return found


def net_of_idle(gross: Energy, idle: Idle | None, relative_u95: float | None) -> tuple[float | None, float | None]:
    """Energy above idle and the half-width of its 95% interval, in millijoules; None where either part is missing.

    The sensor's proportional error scales gross and idle alike, so it applies to their difference.
    """
    if idle is None or gross.energy_mj is None or gross.random_u95_mj is None:
        return None, None
    net_mj = gross.energy_mj - idle.power_mw * gross.window_s
    u95_mj = math.hypot(gross.random_u95_mj, idle.u95_mw * gross.window_s, (relative_u95 or 0.0) * net_mj)
    return net_mj, u95_mj
