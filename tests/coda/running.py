"""Run the `coda` command: as a user does, in a process of its own, or in this one, which has loaded what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from coda.cli import main

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "2", "COLUMNS": "120", "NO_COLOR": "1"}


def coda(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from an empty place that is not the checkout's parent."""
    return subprocess.run(
        [sys.executable, "-m", "coda", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def coda_here(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, where what is looked at is what it says and writes and not how a process fares."""
    out, err = StringIO(), StringIO()
    said = {"COLUMNS": ENVIRONMENT["COLUMNS"], "NO_COLOR": ENVIRONMENT["NO_COLOR"], **environment}
    words, stays = (
        patch.object(sys, "argv", ["coda", *arguments]),
        patch.object(os, "execv", side_effect=AssertionError),
    )
    with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, said), words, stays:
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(["coda", *arguments], code, out.getvalue(), err.getvalue())


def start_coda(*arguments: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "coda", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def settled(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Until something holds that another process brings about."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        os.sched_yield()
        time.sleep(0.01)
