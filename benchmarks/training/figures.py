"""Ratios between contenders, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.training.race import Measured

RIVALS = ("torch", "keras")
METRICS = ("step_s", "process_s", "peak_rss_bytes")
# How many times as much a rival must need.
GOALS = {
    ("step_s", "torch"): 4,
    ("step_s", "keras"): 20,
    ("process_s", "torch"): 6,
    ("process_s", "keras"): 15,
    ("peak_rss_bytes", "torch"): 5,
    ("peak_rss_bytes", "keras"): 9,
}
GOAL_OVERHEAD = 0.10  # of the Trainer over bare signature calls


@dataclass(frozen=True)
class Ratio:
    """How many times as much a rival needs.

    Attributes:
        times: Median over the repetitions, each of which measured both.
        goal: What it should be at least; None for a contender that has no goal.
    """

    times: float
    goal: float | None

    @property
    def met(self) -> bool | None:
        """Whether it reaches the goal; None without one."""
        return None if self.goal is None else self.times >= self.goal


def ratios(measured: Mapping[str, Measured], key: str) -> dict[tuple[str, str], Ratio]:
    """Of contender ``key``, by metric and rival; without rivals that were not measured, and none of a rival itself."""
    if key in RIVALS:
        return {}
    held = key.startswith("trainer-")
    return {
        (metric, rival): Ratio(
            _paired(getattr(measured[key], metric), getattr(measured[rival], metric)),
            GOALS[metric, rival] if held else None,
        )
        for metric in METRICS
        for rival in RIVALS
        if rival in measured
    }


def _paired(ours: list[float], theirs: list[float]) -> float:
    return median(their / our for our, their in zip(ours, theirs, strict=True))
