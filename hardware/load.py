"""A steady load on the processors, for calibrations and comparisons: processes that are busy a share of the time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# It ends with its parent, also where that is killed and cannot end it: a load for ever would be a heater.
# Busy for a share of a period whose length is drawn anew each time, so that samples do not keep step with it.
_PROGRAM = """
import os, random, sys, time
parent = os.getppid()
share, generator = float(sys.argv[1]), random.Random(int(sys.argv[2]))
while os.getppid() == parent:
    period_s = generator.uniform(0.01, 0.03)
    end_s = time.perf_counter() + share * period_s
    while time.perf_counter() < end_s:
        pass
    time.sleep((1 - share) * period_s)
"""


@contextmanager
def busy(share: float, processors: int | None = None) -> Iterator[None]:
    """Keep processors busy for a share of the time while the body runs.

    Args:
        share: 0 to 1.
        processors: How many; all by default.

    Raises:
        ValueError: If the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share of time: 0 to 1, got {share}")
    count = (processors or os.cpu_count() or 1) if share else 0
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for seed in range(count):  # within the try: an interrupt may come between two of them
            workers.append(_start(share, seed))
        yield
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()


def _start(share: float, seed: int) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    command = [sys.executable, "-S", "-c", _PROGRAM, str(share), str(seed)]
    return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
