"""A contender's process: opens the job, takes its first pass, then times further ones.

    python -m benchmarks.training.child FOLDER PASSES CONTENDER [CONTENDER ...]
    python -m benchmarks.training.child FOLDER served CONTENDER

The first prints one JSON object. Several contenders in one process take turns, so that what disturbs the machine
disturbs all of them alike. The second prints the losses of the first pass, then takes a pass for every line that it
reads and answers each with a line.

A process of its own is not only needed for its memory: where TensorFlow is loaded first, tflite-runtime runs
TensorFlow's kernels instead of its own and looks faster than it is, because the dynamic linker finds those first.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from benchmarks.training.contenders import CONTENDERS, Passes
from benchmarks.training.job import Job


def measure(job: Job, passes: int, keys: list[str]) -> None:
    """Print losses and seconds a step by contender, and this process's peak memory."""
    opened = {key: CONTENDERS[key].open(job) for key in keys}
    losses = {key: list(contender.first()) for key, contender in opened.items()}
    step_s = _timed(opened, passes, job.steps)
    print(json.dumps({"losses": losses, "step_s": step_s, "peak_rss_bytes": peak_rss_bytes()}))


def _timed(opened: dict[str, Passes], passes: int, steps: int) -> dict[str, list[float]]:
    step_s: dict[str, list[float]] = {key: [] for key in opened}
    for _ in range(passes):
        for key, contender in opened.items():
            start = time.perf_counter()
            contender.again()
            step_s[key].append((time.perf_counter() - start) / steps)
    return step_s


def serve(job: Job, key: str) -> None:
    """Take a pass for every line that comes in."""
    contender = CONTENDERS[key].open(job)
    print(json.dumps(list(contender.first())), flush=True)
    for _ in sys.stdin:
        contender.again()
        print("done", flush=True)


def peak_rss_bytes() -> int:
    """The most memory this process had resident, by its kernel.

    Not ``getrusage``: what a process had before it executed a program, its parent's memory, counts there.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    if found is None:
        raise OSError("/proc/self/status has no VmHWM line: peak memory cannot be measured on this kernel")
    return int(found[1]) * 1024


def main(folder: str, passes: str, *keys: str) -> None:
    """Measure or serve."""
    job = Job.load(Path(folder))
    if passes == "served":
        serve(job, *keys)
    else:
        measure(job, int(passes), list(keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
