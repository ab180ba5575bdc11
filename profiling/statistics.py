"""Medians with bootstrap intervals over rounds, and whether one run costs significantly more than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiling.metrics import METRICS, ROUND, Metric, by_phase, values
from profiling.record import RoundRecord

FEWEST_FOR_INTERVAL = 4
_RESAMPLES = 2000
_EXACT_BITS = 14


@dataclass(frozen=True)
class Estimate:
    """A metric over the rounds of a run.

    Attributes:
        metric: Its name.
        phase: A phase, or `ROUND`.
        rounds: How many rounds measured it.
        median: Of them; None where there is none.
        low: Lower end of the median's 95% bootstrap interval; None under `FEWEST_FOR_INTERVAL` rounds.
        high: Upper end.
    """

    metric: str
    phase: str
    rounds: int
    median: float | None
    low: float | None
    high: float | None


def settled(rounds: Sequence[RoundRecord], warm_up: int = 1) -> list[RoundRecord]:
    """The rounds without each device's first ``warm_up``, as far as a device has more than that."""
    seen: dict[str, int] = {}
    count: dict[str, int] = {}
    for record in rounds:
        count[record.device] = count.get(record.device, 0) + 1
    kept = []
    for record in rounds:
        seen[record.device] = seen.get(record.device, 0) + 1
        if seen[record.device] > warm_up or count[record.device] <= warm_up:
            kept.append(record)
    return kept


def estimate(rounds: Sequence[RoundRecord], metric: Metric, phase: str = ROUND) -> Estimate:
    """Median and interval of one metric."""
    found = values(rounds, metric, phase)
    if not found:
        return Estimate(metric.name, phase, 0, None, None, None)
    low, high = median_interval(found) if len(found) >= FEWEST_FOR_INTERVAL else (None, None)
    return Estimate(metric.name, phase, len(found), float(np.median(found)), low, high)


def estimates(rounds: Sequence[RoundRecord]) -> list[Estimate]:
    """Every metric of every phase and of the whole round."""
    phases = list(dict.fromkeys(name for record in rounds for name in by_phase(record) if name != ROUND))
    return [estimate(rounds, metric, phase) for metric in METRICS for phase in [ROUND, *phases]]


def median_interval(sample: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """95% interval of the median by the percentile bootstrap."""
    draws = np.random.default_rng(seed).choice(np.asarray(sample), (_RESAMPLES, len(sample)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(low), float(high)


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p of the sign-flip test: could differences this far from zero come from no difference at all?

    Exact up to 14 pairs, else by 20,000 random flips.
    """
    steps = np.asarray(differences, np.float64)
    if len(steps) <= _EXACT_BITS:
        flips = 1 - 2 * (np.arange(1 << len(steps))[:, None] >> np.arange(len(steps)) & 1)
    else:
        flips = np.random.default_rng(1).choice((-1, 1), (20_000, len(steps)))
        flips[0] = 1
    sums = np.abs(flips @ steps)
    return float((sums >= abs(steps.sum()) * (1 - 1e-12)).mean())


def unpaired_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the permutation test on the difference of means of the ranks, by 20,000 random relabellings."""
    both = np.concatenate((first, second))
    ranks = (both[:, None] > both).sum(axis=1) + 0.5 * (both[:, None] == both).sum(axis=1)
    observed = abs(ranks[: len(first)].mean() - ranks[len(first) :].mean())
    generator = np.random.default_rng(1)
    shuffled = generator.permuted(np.tile(ranks, (20_000, 1)), axis=1)
    spread = np.abs(shuffled[:, : len(first)].mean(axis=1) - shuffled[:, len(first) :].mean(axis=1))
    return float((1 + (spread >= observed * (1 - 1e-12)).sum()) / (1 + len(spread)))


def least_p(first: int, second: int, *, paired: bool) -> float:
    """The smallest p that so many values can give: every one of them pointing the same way."""
    return 2 / 2**first if paired else 2 / math.comb(first + second, first)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being looked at together, by Holm's method."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted
