"""A steady load on the processors, for calibrations and comparisons: processes that are busy a share of the time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Busy for a share of a period whose length is drawn anew each time, so that samples do not keep step with it.
_PROGRAM = """
import random, sys, time
share, generator = float(sys.argv[1]), random.Random(int(sys.argv[2]))
while True:
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
    workers = [
        subprocess.Popen([sys.executable, "-S", "-c", _PROGRAM, str(share), str(seed)], stdin=subprocess.DEVNULL)
        for seed in range(count)
    ]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
