"""Small files that only their owner reads, and that are whole whenever the power goes.

The standard library alone: a device's hand-over uses it before anything else is loaded.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write with mode 0600, durably: after a crash the old or the new file is there, whole.

    Raises:
        OSError: If the disk fails; the old file stays.
    """
    # mkstemp creates with mode 0600, so the bytes are never readable by others, not even for a moment.
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
    """Have a file's content, or a folder's names, on disk when this returns; raises OSError if the disk fails."""
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
