"""Readings that are exactly equal: a steady load, or one reading repeated by a sensor that hangs.

Which of the two cannot be seen from the readings. So a stretch of equal ones widens the bar by what it may hide: the
step at its end, for a load that moved at some moment of it; the whole range of the power where it is long for a sensor
of its kind. One that is longer than a live sensor ever is still counts as a stretch without samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SHORTEST_RUN = 3
_SUSPECT_SHARE = 0.2  # of the longest time that a live sensor is still


@dataclass(frozen=True)
class Stillness:
    """What equal readings may hide.

    Attributes:
        dead_s: Seconds of the windows in which the sensor hung.
        u95_mj: Half-width of the 95% interval that the other stretches of equal readings add.
    """

    dead_s: float
    u95_mj: float


def stillness(times: Array, powers: Array, windows: Sequence[tuple[float, float]], still_s: float | None) -> Stillness:
    """Look for stretches of equal powers within windows.

    Args:
        times: When each sample was taken, rising.
        powers: Milliwatts at those times.
        windows: Begin and end of each.
        still_s: Longest time for which a live sensor repeats a reading; None where nobody knows.
    """
    spread_mw, dead_s, hidden_mj = float(np.ptp(powers)), 0.0, [0.0]
    for first, after in _runs(powers):
        length_s, inside_s = times[after - 1] - times[first], _inside(times[first], times[after - 1], windows)
        step_mw = abs(powers[after] - powers[after - 1]) if after < len(powers) else spread_mw
        if still_s is not None and length_s > still_s:
            dead_s += inside_s
        elif still_s is not None and length_s > _SUSPECT_SHARE * still_s:
            hidden_mj.append(inside_s * spread_mw)
        else:
            hidden_mj.append(inside_s * step_mw)
    return Stillness(dead_s, math.hypot(*hidden_mj))


def longest_still_s(times: Array, counted: Array, windows: Sequence[tuple[float, float]]) -> float:
    """The longest stretch of windows in which a counter's readings were all equal, in seconds."""
    return max((_inside(times[first], times[after - 1], windows) for first, after in _runs(counted)), default=0.0)


def _runs(values: Array) -> list[tuple[int, int]]:
    """First place, and place after the last, of each stretch of equal values."""
    changes = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b) for a, b in pairwise(changes) if b - a >= _SHORTEST_RUN]


def _inside(begin_s: float, end_s: float, windows: Sequence[tuple[float, float]]) -> float:
    return float(sum(max(0.0, min(end_s, end) - max(begin_s, begin)) for begin, end in windows))
