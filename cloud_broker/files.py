"""Folders that only their owner reads, and that one process at a time changes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_private_directory(path: Path) -> Path:
    """Create ``path`` and its parents; ``path`` itself is readable by its owner alone."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Hold ``path`` for oneself, among all processes of this machine that ask like this; waits for its turn."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # releases it
