"""A warm training step and a whole process that trains, by contender; a comparison is void unless losses agree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.conftest import JobMaker
from benchmarks.training.job import Job
from benchmarks.training.race import ROOT, check_losses, child_command, child_environment, run_child

Losses = Callable[[str], list[float]]


def test_warm_pass(benchmark: Any, trainable: str, contender: str, make_job: JobMaker, expected_losses: Losses) -> None:
    """One pass of the job, warm, in a process that waits for the word; asking it takes about 0.05 ms."""
    benchmark.group = f"a pass of 105 warm steps, {trainable}"
    with _served(make_job(trainable), contender) as ask:
        check_losses({contender: json.loads(ask("")), "expected": expected_losses(trainable)})
        assert benchmark.pedantic(ask, args=("again\n",), rounds=20, warmup_rounds=1) == "done\n"


@contextmanager
def _served(job: Job, contender: str) -> Iterator[Callable[[str], str]]:
    """A contender's process, and a function that sends it a text and gives the next line of its answer."""
    command, environment = child_command(job, "served", contender), child_environment()
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=none, text=True, bufsize=1
    ) as child:
        to_child, from_child = child.stdin, child.stdout
        assert to_child is not None
        assert from_child is not None

        def ask(text: str) -> str:
            to_child.write(text)
            return from_child.readline()

        yield ask
        to_child.close()


def test_whole_process(
    benchmark: Any, trainable: str, contender: str, make_job: JobMaker, expected_losses: Losses
) -> None:
    """A process that starts, loads the job, takes one pass and ends; ``peak_rss_mb`` is its own."""
    benchmark.group = f"a process that takes 105 steps, {trainable}"
    printed = benchmark.pedantic(run_child, args=(make_job(trainable), 0, contender), rounds=3)
    check_losses({contender: printed["losses"][contender], "expected": expected_losses(trainable)})
    benchmark.extra_info["peak_rss_mb"] = printed["peak_rss_bytes"] / 1e6
