"""Folders that only their owner reads, and that one process at a time changes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_broker.errors import StorageError

_SERVING = "serving"


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


@contextmanager
def serve_alone(state_dir: Path) -> Iterator[None]:
    """Be the one that serves a state folder.

    Raises:
        StorageError: If another process does: their workers, of one name at the broker, would end each other's
            connections for ever.
    """
    handle = os.open(make_private_directory(state_dir) / _SERVING, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"{state_dir} is served already: end the other `coda cloud serve`, or have it run more with --workers"
            ) from None
        yield
    finally:
        os.close(handle)
