"""Integration keeps its word: the truth lies within the stated bar, and too little gives no number."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from profiling.energy import FEWEST_SAMPLES, Energy, count, integrate

Array = NDArray[np.float64]


def _curve(rng: np.random.Generator, length_s: float) -> tuple[Array, Array]:
    """A random power over time on a fine grid: steps, waves of any speed, bursts."""
    t = np.linspace(-1, length_s + 1, 20_001)
    p = np.full_like(t, rng.uniform(1000, 8000))
    for _ in range(rng.integers(0, 6)):
        p += np.where(t >= rng.uniform(0, length_s), rng.uniform(-1500, 3000), 0)
    for _ in range(rng.integers(0, 4)):
        hz = math.exp(rng.uniform(math.log(0.05), math.log(60)))
        p += rng.uniform(0, 1500) * np.sin(2 * np.pi * (hz * t + rng.random()))
    if rng.random() < 0.5:
        hz, duty = math.exp(rng.uniform(math.log(0.2), math.log(40))), rng.uniform(0.1, 0.9)
        p += rng.uniform(0, 4000) * (((hz * t + rng.random()) % 1) < duty)
    return t, np.clip(p, 200, None)


def _sampled(rng: np.random.Generator, length_s: float) -> tuple[Array, Array, float, float]:
    """Sample times, readings of a sensor with a gain error, that error's bar, and the true energy."""
    t, p = _curve(rng, length_s)
    period_s = 1 / rng.choice([2.0, 10.0, 21.0, 50.0])
    steps = period_s * rng.uniform(0.75, 1.25, int((length_s + 1) / period_s / 0.75) + 2)
    times = -0.5 + np.cumsum(steps)
    times = times[times < length_s + 0.5]
    bar = float(rng.choice([0.0, 0.02, 0.05, 0.1]))
    readings = np.interp(times, t, p) * (1 + bar / 1.96 * rng.standard_normal())
    fine = np.linspace(0, length_s, 40_001)
    power = np.interp(fine, t, p)
    truth_mj = float(((power[1:] + power[:-1]) / 2).mean()) * length_s
    return times, readings, bar, truth_mj


def _share_within(spoil: Callable[[np.random.Generator, Array, Array], tuple[Array, Array]]) -> float:
    rng = np.random.default_rng(7)
    hits: list[bool] = []
    while len(hits) < 1000:
        length_s = math.exp(rng.uniform(0, math.log(30)))
        times, readings, bar, truth_mj = _sampled(rng, length_s)
        times, readings = spoil(rng, times, readings)
        energy = integrate(times, readings, [(0.0, length_s)], relative_u95=bar)
        if energy.energy_mj is not None and energy.u95_mj is not None:
            hits.append(abs(energy.energy_mj - truth_mj) <= energy.u95_mj)
    return sum(hits) / len(hits)


def test_truth_is_within_the_bar() -> None:
    """For 1,000 random loads, rates and sensor errors, the true energy is within u95 at least 95% of the time."""
    assert _share_within(lambda rng, times, readings: (times, readings)) >= 0.95


def test_truth_is_within_the_bar_under_faults() -> None:
    """The same where samples are lost at random, in one stretch, or read as no number: wider bars, or none."""

    def spoil(rng: np.random.Generator, times: Array, readings: Array) -> tuple[Array, Array]:
        kept = rng.random(len(times)) > rng.uniform(0, 0.3)
        if rng.random() < 0.5:
            begin, long = rng.uniform(0, times[-1]), rng.uniform(0, times[-1] / 2)
            kept &= ~((times > begin) & (times < begin + long))
        readings = np.where(rng.random(len(times)) < 0.02, np.nan, readings)
        return times[kept], readings[kept]

    assert _share_within(spoil) >= 0.95


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0.01, 0.2), min_size=40, max_size=80), st.floats(100, 9000), st.floats(-300, 300), st.data())
def test_line_is_integrated_exactly(steps: list[float], level: float, slope: float, data: st.DataObject) -> None:
    """A power that moves along a line is integrated exactly, wherever the window's edges fall between samples."""
    times = np.cumsum(steps)
    begin = data.draw(st.floats(times[0], times[10]))
    end = data.draw(st.floats(times[25], times[-1]))
    powers = level + slope * times
    energy = integrate(times, powers, [(begin, end)])
    truth = level * (end - begin) + slope * (end**2 - begin**2) / 2
    if energy.energy_mj is not None:
        assert energy.energy_mj == pytest.approx(truth, rel=1e-6, abs=1e-3)


def test_two_windows_leave_out_what_lies_between() -> None:
    """Windows are added; what happens between them does not count."""
    times = np.arange(0, 10, 0.1)
    powers = np.where((times > 4.05) & (times < 5.95), 9e6, 1000.0)
    energy = integrate(times, powers, [(0.0, 4.0), (6.0, 9.0)])
    assert energy.energy_mj == pytest.approx(7000)
    assert energy.window_s == pytest.approx(7)


def _none(energy: Energy, word: str) -> None:
    assert energy.energy_mj is None
    assert energy.u95_mj is None
    assert energy.reason is not None
    assert word in energy.reason


def test_too_few_samples() -> None:
    """One sample fewer than needed gives no number and the reason, and so does none at all."""
    times = np.linspace(0, 1, FEWEST_SAMPLES)
    assert integrate(times, times, [(0.0, 1.0)]).energy_mj is not None
    _none(integrate(times[1:], times[1:], [(0.0, 1.0)]), "insufficient samples: 7 in 1 s")
    _none(integrate([], [], [(0.0, 1.0)]), "insufficient samples: 0")
    _none(integrate(times, times, []), "insufficient samples")


def test_gaps() -> None:
    """A gap widens the bar; one over a fifth of the window gives no number, also at the window's edge."""
    times = np.arange(0, 10.01, 0.1)
    powers = 2000 + 500 * np.sin(times)
    whole = integrate(times, powers, [(0.0, 10.0)])
    holed = (times < 4) | (times > 5)
    gap = integrate(times[holed], powers[holed], [(0.0, 10.0)])
    assert whole.u95_mj is not None
    assert gap.u95_mj is not None
    assert whole.gap_s == 0
    assert gap.gap_s == pytest.approx(1.2, abs=0.21)
    assert gap.u95_mj > 3 * whole.u95_mj
    holed = (times < 3) | (times > 5.5)
    _none(integrate(times[holed], powers[holed], [(0.0, 10.0)]), "stretches without any")
    _none(integrate(times[times < 7], powers[times < 7], [(0.0, 10.0)]), "stretches without any")


def test_latency_widens_the_bar() -> None:
    """A reading that may be old blurs the edges by its age times the power's range."""
    times = np.arange(0, 5, 0.1)
    powers = np.where(times < 2.5, 1000.0, 3000.0)
    prompt, late = (integrate(times, powers, [(0.0, 4.0)], latency_s=s) for s in (0.0, 0.5))
    assert prompt.u95_mj is not None
    assert late.u95_mj == pytest.approx(math.hypot(prompt.u95_mj, 1000))


def test_samples_out_of_order_and_repeated() -> None:
    """A sample that is not later than the one before it is not used."""
    times = [0.0, 0.1, 0.1, 0.05, *np.arange(0.2, 2, 0.1)]
    powers = [1000.0, 1000.0, 9e9, 9e9, *[1000.0] * 18]
    assert integrate(times, powers, [(0.0, 1.8)]).energy_mj == pytest.approx(1800)


def test_counter() -> None:
    """A counter's bar holds its share, its lateness at both edges and its step."""
    energy = count(2000, 10.0, relative_u95=0.05, latency_s=0.1, step_mj=3)
    assert energy.energy_mj == 2000
    assert energy.u95_mj == pytest.approx(math.hypot(100, 20, 20, 3, 3))
    _none(count(2000, 0.4, latency_s=0.1), "insufficient samples")
    _none(count(-1, 10), "fell")
