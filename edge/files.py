"""Small files that are whole whenever the power goes. The standard library alone: the hand-over uses it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write with mode 0600, durably, and so that the old or the new file is there, whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Delete what `write_private` was cut short of in a folder; nobody may be writing there."""
    for path in folder.glob(".*.????????"):
        with contextlib.suppress(OSError):  # a disk that cannot be written keeps it a while longer
            path.unlink()
