"""Differences of means with their confidence intervals, and whether arms have the devices they should have.

Welch's intervals: arms may differ in spread and in size. A device is one value, so rounds of one device do not pose as
many devices. Student's and the chi-square distribution are computed here: the cloud needs nothing else of scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 4  # devices in an arm for an interval
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Mean:
    """A mean over devices.

    Attributes:
        devices: That have a value.
        mean: Of them; None of none.
        deviation: Their standard deviation; None of fewer than two.
    """

    devices: int
    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Difference:
    """One mean minus another.

    Attributes:
        difference: Of the means.
        low: Lower end of the interval.
        high: Upper end.
        confidence: Of the interval, 0 to 1.
    """

    difference: float
    low: float
    high: float
    confidence: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and deviation of one value a device."""
    if not values:
        return Mean(0, None, None)
    return Mean(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def welch(ours: Sequence[float], control: Sequence[float], confidence: float) -> Difference | None:
    """Mean of ours minus the control's, with Welch's interval (1947).

    None with fewer than `FEWEST` devices in one, or where all devices of both have one value: nothing then tells how
    far others would be from it.
    """
    if min(len(ours), len(control)) < FEWEST:
        return None
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, control)]
    gap = float(np.mean(ours) - np.mean(control))
    if sum(parts) == 0:
        return None
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (ours, control), strict=True)
    )
    half = student_quantile((1 + confidence) / 2, freedom) * math.sqrt(sum(parts))
    return Difference(gap, gap - half, gap + half, confidence)


def difference_of_shares(ours: Sequence[float], control: Sequence[float], confidence: float) -> Difference | None:
    """The same of values from 0 to 1, mostly either: with one more of each in both arms (Agresti and Caffo, 2000).

    So that all devices of a few being alike does not pass for certainty.
    """
    if min(len(ours), len(control)) < FEWEST:
        return None
    found = welch([*ours, 0.0, 1.0], [*control, 0.0, 1.0], confidence)
    gap = float(np.mean(ours) - np.mean(control))
    return None if found is None else Difference(gap, min(found.low, gap), max(found.high, gap), confidence)


def student_quantile(chance: float, freedom: float) -> float:
    """The value that Student's t stays below with that chance, 0.5 to 1 exclusive."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + _student_mass(middle, freedom) < chance else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _student_mass(angle: float, freedom: float) -> float:
    """Chance of 0 < t < sqrt(freedom) tan(angle): in the angle, the density is a power of its cosine."""
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    angles = angle / 2 * (_NODES + 1)
    return float(angle / 2 * (_WEIGHTS * np.exp(scale + (freedom - 1) * np.log(np.cos(angles)))).sum())


def mismatch(devices: Sequence[int], weights: Sequence[float]) -> float:
    """Chance of counts so far from their weights: Pearson's chi-square test of a sample-ratio mismatch.

    Args:
        devices: Of each arm.
        weights: Of each arm.
    """
    whole, weight = sum(devices), math.fsum(weights)
    if whole == 0:
        return 1.0
    expected = [whole * one / weight for one in weights]
    distance = math.fsum((seen - due) ** 2 / due for seen, due in zip(devices, expected, strict=True))
    return chi_square_tail(distance, len(devices) - 1)


def chi_square_tail(value: float, freedom: int) -> float:
    """Chance that chi-square with so many degrees of freedom, 1 or more, is above ``value``."""
    half = value / 2
    if freedom % 2:
        tail, power = math.erfc(math.sqrt(half)), 0.5
    else:
        tail, power = math.exp(-half), 1.0
    while power < freedom / 2:  # two degrees of freedom more add one term
        tail += math.exp(power * math.log(half) - half - math.lgamma(power + 1)) if half else 0.0
        power += 1
    return tail
