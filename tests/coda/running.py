"""Run the `coda` command as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
