"""What the profiler costs, by running the same work with it and without it in turn."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from profiling.statistics import median_interval
from profiling.window import Profiler


@dataclass(frozen=True)
class OnOff:
    """Outcome of an on/off comparison.

    Attributes:
        cpu_s: Processor seconds that the profiler adds to one run of the work; the median over pairs.
        cpu_s_interval: Its 95% bootstrap interval.
        elapsed_s: Wall seconds that it adds.
        elapsed_s_interval: Its 95% bootstrap interval.
        pairs: Pairs of runs.
    """

    cpu_s: float
    cpu_s_interval: tuple[float, float]
    elapsed_s: float
    elapsed_s_interval: tuple[float, float]
    pairs: int


def compare_on_off(work: Callable[[], None], make: Callable[[], Profiler], pairs: int = 10) -> OnOff:
    """Run the work with and without a profiler in turn, and say what the profiler adds.

    Args:
        work: The same every time.
        make: Makes a profiler as it would be used.
        pairs: How often; the first pair warms up and does not count. At least 3.

    Raises:
        ValueError: If there are fewer than 3 pairs.
    """
    if pairs < 3:
        raise ValueError(f"an interval needs at least 3 pairs, got {pairs}")
    cpu_s, elapsed_s = [], []
    for _ in range(pairs + 1):
        plain = _cost(work)
        profiler = make()

        def profiled(profiler: Profiler = profiler) -> None:
            with profiler.phase("work"):
                work()

        measured = _cost(profiled)
        cpu_s.append(measured[0] - plain[0])
        elapsed_s.append(measured[1] - plain[1])
    return OnOff(
        median(cpu_s[1:]), median_interval(cpu_s[1:]), median(elapsed_s[1:]), median_interval(elapsed_s[1:]), pairs
    )


def _cost(work: Callable[[], None]) -> tuple[float, float]:
    """Processor and wall seconds of a call."""
    before, begin_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after, end_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, end_s - begin_s
