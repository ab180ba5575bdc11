"""Runs the contenders' processes, turn by turn, and gathers what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.training.job import Job

TOLERANCE = 1e-4  # of a loss; contenders that differ by more did not do the same work
ROOT = Path(__file__).resolve().parents[2]


class ComparisonVoidError(RuntimeError):
    """Contenders did not take the same steps, so their costs do not compare."""


@dataclass
class Measured:
    """One contender, one value a repetition.

    Attributes:
        process_s: From start to end of a process that takes one pass.
        peak_rss_bytes: Of that process.
        step_s: Of a warm step, in another process: its fastest pass, which other programs disturbed least.
        typical_step_s: The same, its median pass.
        losses: Of the first pass.
    """

    process_s: list[float] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    typical_step_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def race(
    job: Job, keys: Sequence[str], repetitions: int, passes: int, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Measured]:
    """Measure contenders in alternating order, so that a machine that slows down slows all of them.

    Args:
        job: What they train.
        keys: Of `CONTENDERS`; all installed.
        repetitions: How often each has its turn.
        passes: Timed passes of a turn.
        tell: Called with what is measured next.

    Raises:
        ComparisonVoidError: If their losses differ.
    """
    measured = {key: Measured() for key in keys}
    for repetition in range(repetitions):
        for key in keys if repetition % 2 == 0 else reversed(keys):
            tell(f"{job.model}, {job.trainable}: {key}, {repetition + 1} of {repetitions}")
            _measure(job, key, passes, measured[key])
        check_losses({key: m.losses for key, m in measured.items()})
    return measured


def _measure(job: Job, key: str, passes: int, into: Measured) -> None:
    start = time.perf_counter()
    cold = run_child(job, 0, key)
    into.process_s.append(time.perf_counter() - start)
    into.peak_rss_bytes.append(cold["peak_rss_bytes"])
    into.losses = cold["losses"][key]
    warm = run_child(job, passes, key)["step_s"][key]
    into.step_s.append(min(warm))
    into.typical_step_s.append(median(warm))


def overhead(job: Job, key: str, base: str, repetitions: int, passes: int) -> list[float]:
    """How much longer a step of ``key`` takes than one of ``base``, as a share; one value a repetition.

    Both take turns in one process: two processes of the same program differ by more than this.
    """
    shares = []
    for _ in range(repetitions):
        step_s = run_child(job, passes, base, key)["step_s"]
        shares.append(median(mine / other - 1 for mine, other in zip(step_s[key], step_s[base], strict=True)))
    return shares


def run_child(job: Job, passes: int, *keys: str) -> dict[str, Any]:
    """What `benchmarks.training.child` prints.

    Raises:
        RuntimeError: If it fails; with what it wrote to standard error.
    """
    command = child_command(job, str(passes), *keys)
    done = subprocess.run(command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' and '.join(keys)} on {job.folder}: exit {done.returncode}\n{done.stderr[-2000:]}")
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def child_command(job: Job, *arguments: str) -> list[str]:
    """Starts a contender's process, from `ROOT`."""
    return [sys.executable, "-m", "benchmarks.training.child", str(job.folder), *arguments]


def child_environment() -> dict[str, str]:
    """One thread for numeric libraries, whose work here takes tens of microseconds, and no news from TensorFlow."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def check_losses(losses: dict[str, list[float]]) -> float:
    """The largest difference between any two contenders' losses of one step.

    Raises:
        ComparisonVoidError: If it is not within `TOLERANCE`, or someone took another number of steps.
    """
    lengths = {key: len(values) for key, values in losses.items()}
    if len(set(lengths.values())) != 1:
        raise ComparisonVoidError(f"contenders took different numbers of steps: {lengths}")
    spread = float(np.ptp(np.array(list(losses.values())), axis=0).max())
    if not spread <= TOLERANCE:  # also where a loss is not a number
        first, last = ({key: values[at] for key, values in losses.items()} for at in (0, -1))
        raise ComparisonVoidError(
            f"losses differ by {spread:.2g}, more than {TOLERANCE:g}, so contenders do not train the same model; "
            f"first step {first}, last step {last}"
        )
    return spread
