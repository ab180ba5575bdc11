"""Calibrates a board's own power source, or its utilisation, against a meter beside it.

Loads are stepped; of each step the mean of source and reference is taken. Half of the steps fit a line, the other half
say how far to trust it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.board import identify
from hardware.calibration import Calibration, unit_of
from hardware.errors import CalibrationError
from hardware.load import busy
from hardware.modelled import Utilisation
from hardware.sensor import Sensor
from profiling.sampler import DEFAULT_HZ, Sampler
from profiling.tracks import Track, follow

# Each load comes twice, in another order, so that warming up does not look like a slope.
LOADS = (0.0, 0.5, 1.0, 0.25, 0.75, 0.75, 0.25, 1.0, 0.5, 0.0)
DEFAULT_STEP_S = 10.0
_FEWEST_STEPS = 6
_LEAST_SPAN = 0.1  # of the largest reference power
_WORST_U95 = 0.25
_LEAST_U95 = 0.02
_SETTLE_SHARE = 0.2


@dataclass(frozen=True)
class Step:
    """One load held.

    Attributes:
        load: Share of the time that the processors were kept busy.
        source: Mean of the calibrated source: milliwatts, or the utilisation from 0 to 1.
        reference_mw: Mean of the reference.
    """

    load: float
    source: float
    reference_mw: float


def run_steps(
    source: Sensor | Utilisation,
    reference: Sensor,
    *,
    loads: Sequence[float] = LOADS,
    step_s: float = DEFAULT_STEP_S,
    hold: Callable[[float], AbstractContextManager[None]] = busy,
    rest: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Step]:
    """Hold each load for a while and yield what source and reference said; the first fifth of it settles.

    Args:
        source: What is calibrated: a sensor, or the utilisation.
        reference: The meter.
        loads: Shares of the time that processors are busy.
        step_s: Seconds of each.
        hold: Makes a load for the time of a ``with`` block.
        rest: Waits.
        clock: Monotonic seconds.

    Raises:
        CalibrationError: If a step has too few readings; the message says of what.
    """
    for load in loads:
        with hold(load):
            rest(step_s * _SETTLE_SHARE)
            tracks = [follow(sensor) for sensor in ([source] if isinstance(source, Sensor) else []) + [reference]]
            utilisation, means = _watch(tracks, source, step_s * (1 - _SETTLE_SHARE), rest, clock)
        yield Step(load, means[0] if utilisation is None else utilisation, means[-1])


def _watch(
    tracks: Sequence[Track],
    source: Sensor | Utilisation,
    watch_s: float,
    rest: Callable[[float], None],
    clock: Callable[[], float],
) -> tuple[float | None, list[float]]:
    """Utilisation, where that is the source, and the mean milliwatts of each track."""
    sampler = Sampler([track.probe for track in tracks if track.probe], DEFAULT_HZ, clock)
    sampler.hold()
    try:
        begins = [track.mark(clock()) for track in tracks]
        utilisation = None if isinstance(source, Sensor) else source()
        rest(watch_s)
        ends = [track.mark(clock()) for track in tracks]
        utilisation = None if isinstance(source, Sensor) else source()
    finally:
        sampler.release()
        sampler.stop()
    means = []
    for track, begin, end in zip(tracks, begins, ends, strict=True):
        energy = track.energy([(begin, end)])
        if energy.energy_mj is None:
            raise CalibrationError(f"{track.source.name}: {energy.reason}")
        means.append(energy.energy_mj / energy.window_s)
    return utilisation, means


def fit(steps: Sequence[Step], source: str, reference: Sensor, root: Path = Path("/")) -> Calibration:
    """The line through every other step, trusted as far as the steps between them say.

    Args:
        steps: What `run_steps` gave.
        source: Name of the calibrated source.
        reference: The meter.
        root: Where the board's files are.

    Raises:
        CalibrationError: If there are too few steps, they are too much alike, the line does not rise, or it misses the
            held-out steps by more than a quarter.
    """
    if len(steps) < _FEWEST_STEPS:
        raise CalibrationError(f"{len(steps)} steps; at least {_FEWEST_STEPS} are needed")
    x, y = np.array([step.source for step in steps]), np.array([step.reference_mw for step in steps])
    if np.ptp(y) < _LEAST_SPAN * y.max() or np.ptp(x[::2]) <= 0:
        raise CalibrationError(f"the load has no effect: the reference stays at {y.min():.0f} to {y.max():.0f} mW")
    scale, offset_mw = (float(value) for value in np.polyfit(x[::2], y[::2], 1))
    if scale <= 0:
        raise CalibrationError(f"the reference falls as {source} rises: they do not measure the same board")
    misses = (scale * x[1::2] + offset_mw) / y[1::2] - 1
    missed_u95 = _student(len(misses)) * float(np.sqrt((misses**2).mean()))
    u95 = math.hypot(missed_u95, reference.source.relative_u95 or 0.0)
    if u95 > _WORST_U95:
        raise CalibrationError(f"the line misses held-out steps by {missed_u95:.0%} at 95%: no better than a guess")
    return Calibration(
        source=source,
        unit=unit_of(root),
        board=identify(root).kind,
        reference=reference.source.name,
        scope=reference.source.scope.value,
        scale=scale,
        offset_mw=offset_mw,
        low=float(x.min()),
        high=float(x.max()),
        relative_u95=max(u95, _LEAST_U95),
        steps=len(steps),
        created_unix_s=time.time(),
    )


def _student(count: int) -> float:
    """A little above the 97.5% point of Student's t for ``count`` values about a known mean."""
    return 1.96 + 3.0 / count
