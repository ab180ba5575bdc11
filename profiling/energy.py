"""Energy over windows of time, with an error bar, or the reason why there is no number.

A sampled power is integrated by the trapezoid rule, interpolated at the exact edges of the windows. The bar combines,
as independent parts, each the half-width of a 95% interval:

- the sensor's own error, a share of the energy;
- what may have happened between samples, from how much neighbouring samples differ (if they are independent draws this
  is the standard error of their mean, and if power moves slowly it is far more than the trapezoid's error);
- the age of a reading, times the range of the power;
- stretches without samples, times the range of the power and at least a fifth of its mean;
- stretches of equal samples, which may be one repeated; see `profiling.stillness`.

It assumes that samples do not keep step with the load, so a sampler must jitter its period.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiling.stillness import longest_still_s, stillness

Array = NDArray[np.float64]
Window = tuple[float, float]
"""Begin and end in monotonic seconds."""

INSUFFICIENT = "insufficient samples"
STOOD_STILL = "the counter stood still"
FEWEST_SAMPLES = 8
MOST_GAP_SHARE = 0.2
_GAP_PERIODS = 3.5  # an interval longer than so many median periods is a gap
_LEAST_GAP_SPREAD = 0.2
_FEWEST_UPDATES = 5  # a counter's window must span so many of its updates


@dataclass(frozen=True)
class Energy:
    """Energy over one or more windows.

    Attributes:
        energy_mj: Millijoules, or None; then ``reason`` says why.
        u95_mj: Half-width of the 95% interval; None with ``energy_mj``.
        random_u95_mj: The part of it that is not the sensor's own, proportional error.
        window_s: Seconds that the windows span.
        samples: Samples inside the windows; 0 for a counter.
        rate_hz: Samples a second that were achieved; None for a counter.
        gap_s: Seconds within stretches without samples.
        reason: Why there is no number.
    """

    energy_mj: float | None
    u95_mj: float | None
    random_u95_mj: float | None
    window_s: float
    samples: int = 0
    rate_hz: float | None = None
    gap_s: float = 0.0
    reason: str | None = None


def integrate(
    times_s: Sequence[float] | Array,
    powers_mw: Sequence[float] | Array,
    windows: Sequence[Window],
    *,
    relative_u95: float | None = None,
    latency_s: float = 0.0,
    still_s: float | None = None,
) -> Energy:
    """Integrate a sampled power over windows that do not overlap.

    Args:
        times_s: When each sample was taken, rising, on the windows' clock.
        powers_mw: Milliwatts at those times.
        windows: Begin and end of each.
        relative_u95: The sensor's own error as a share; None where nobody stated one, and then not in the bar.
        latency_s: How old a reading may be.
        still_s: Longest time for which a live sensor repeats a reading; a longer stretch is a gap. None where nobody
            knows.

    Returns:
        The energy; without a number where there are fewer than `FEWEST_SAMPLES` in the windows, gaps take more than
        `MOST_GAP_SHARE` of them, or the power is negative on the whole.
    """
    times, powers = _clean(times_s, powers_mw)
    span_s = sum(end - begin for begin, end in windows)
    inside = sum(int(np.count_nonzero((times >= begin) & (times <= end))) for begin, end in windows)
    rate_hz = inside / span_s if span_s > 0 else None
    if inside < FEWEST_SAMPLES:
        reason = f"{INSUFFICIENT}: {inside} in {span_s:.3g} s, at least {FEWEST_SAMPLES} are needed"
        return Energy(None, None, None, span_s, inside, rate_hz, reason=reason)
    pieces = [_pieces(times, powers, begin, end) for begin, end in windows]
    steps, means, rises = (np.concatenate(column) for column in zip(*pieces, strict=True))
    gaps = steps > _GAP_PERIODS * float(np.median(np.diff(times)))
    frozen = stillness(times, powers, windows, still_s)
    gap_s = float(steps[gaps].sum()) + frozen.dead_s
    if gap_s > MOST_GAP_SHARE * span_s:
        what = "stretches without any" if not frozen.dead_s else "stretches without any, or with one repeated,"
        reason = f"{INSUFFICIENT}: {what} cover {gap_s:.3g} of {span_s:.3g} s"
        return Energy(None, None, None, span_s, inside, rate_hz, gap_s, reason)
    energy_mj = float(steps @ means)
    if energy_mj < 0:
        reason = "the power is negative, as where a meter is connected the other way round"
        return Energy(None, None, None, span_s, inside, rate_hz, gap_s, reason)
    random_mj = math.hypot(
        _between_samples(steps[~gaps], rises[~gaps], inside),
        latency_s * float(np.ptp(powers)),
        gap_s * max(float(np.ptp(powers)), _LEAST_GAP_SPREAD * abs(float(powers.mean()))),
        frozen.u95_mj,
    )
    u95_mj = math.hypot((relative_u95 or 0.0) * energy_mj, random_mj)
    return Energy(energy_mj, u95_mj, random_mj, span_s, inside, rate_hz, gap_s)


def count(
    energy_mj: float,
    window_s: float,
    *,
    relative_u95: float | None = None,
    latency_s: float = 0.0,
    step_mj: float = 0.0,
) -> Energy:
    """Energy as the difference of a counter's readings at the edges of a window.

    Args:
        energy_mj: That difference.
        window_s: Seconds that the window spans.
        relative_u95: The counter's own error as a share, as for `integrate`.
        latency_s: How late the counter may be.
        step_mj: Its smallest step.

    Returns:
        The energy; without a number where the counter fell or stood still, or the window spans fewer than five of
        its updates.
    """
    if energy_mj < 0:
        return Energy(None, None, None, window_s, reason="the counter fell within the window")
    if window_s < _FEWEST_UPDATES * latency_s:
        reason = f"{INSUFFICIENT}: {window_s:.3g} s of a counter that may be {latency_s:.3g} s late"
        return Energy(None, None, None, window_s, reason=reason)
    if energy_mj == 0 and window_s > 0:
        return Energy(None, None, None, window_s, reason=f"{STOOD_STILL} for {window_s:.3g} s")
    lag_mj = latency_s * energy_mj / window_s if window_s > 0 else 0.0
    random_mj = math.hypot(lag_mj, lag_mj, step_mj, step_mj)
    return Energy(energy_mj, math.hypot((relative_u95 or 0.0) * energy_mj, random_mj), random_mj, window_s)


def refuse_still(
    energy: Energy,
    times_s: Sequence[float] | Array,
    counted_mj: Sequence[float] | Array,
    windows: Sequence[Window],
    still_s: float | None,
) -> Energy:
    """The same energy of a counter, without its number where the counter's readings stood still for too long.

    Args:
        energy: As `count` gave it.
        times_s: When the counter was read in between, rising.
        counted_mj: Its readings.
        windows: Begin and end of each window.
        still_s: Longest time for which a live counter stands still; None where nobody knows.
    """
    stood_s = longest_still_s(*_clean(times_s, counted_mj), windows)
    if still_s is None or stood_s <= still_s:
        return energy
    return Energy(None, None, None, energy.window_s, reason=f"{STOOD_STILL} for {stood_s:.3g} s")


def _clean(times_s: Sequence[float] | Array, powers_mw: Sequence[float] | Array) -> tuple[Array, Array]:
    """Rising times with finite powers; a sample that is neither is not used."""
    times, powers = np.asarray(times_s, np.float64), np.asarray(powers_mw, np.float64)
    usable = np.isfinite(times) & np.isfinite(powers)
    times, powers = times[usable], powers[usable]
    rising = np.ones(len(times), bool)
    if len(times) > 1:
        rising[1:] = times[1:] > np.maximum.accumulate(times)[:-1]
    return times[rising], powers[rising]


def _pieces(times: Array, powers: Array, begin_s: float, end_s: float) -> tuple[Array, Array, Array]:
    """Length, mean power and rise of each stretch between samples, cut at the edges of the window.

    Before the first and after the last sample the power is held.
    """
    inside = (times > begin_s) & (times < end_s)
    edges = np.interp([begin_s, end_s], times, powers)
    at = np.concatenate(([begin_s], times[inside], [end_s]))
    power = np.concatenate((edges[:1], powers[inside], edges[1:]))
    return np.diff(at), (power[1:] + power[:-1]) / 2, np.diff(power)


def _between_samples(steps: Array, rises: Array, samples: int) -> float:
    if not len(steps):
        return 0.0
    variance = float((rises**2).mean()) / 2
    # Student's 97.5% point and some more, since the few samples of a bursty load are not normal.
    factor = 2.1 + 4.0 / (samples - 1)
    return factor * math.sqrt(variance * float((steps**2).sum()))
