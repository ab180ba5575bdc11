"""Whether a folder can be written, found out by writing: a file system that failed does not always say so itself."""

from __future__ import annotations

import errno
import tempfile
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from edge.errors import DiskError, StoreError

_PROBE_BYTES = 64 << 10  # more than a page of SQLite's and its log need
_ADVICE = "rankings go on, nothing new is kept; see `coda edge doctor`"


class Fault(str, Enum):
    """What keeps a folder from being written."""

    FULL = "full"
    READ_ONLY = "read-only"
    DENIED = "denied"
    FAILING = "failing"


_FAULTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), Fault.FULL),
    errno.EROFS: Fault.READ_ONLY,
    **dict.fromkeys((errno.EACCES, errno.EPERM), Fault.DENIED),
    **dict.fromkeys((errno.EIO, errno.EUCLEAN, errno.ENXIO, errno.ENODEV), Fault.FAILING),
}


def probe(folder: Path) -> Fault | None:
    """What keeps a folder from being written; None where nothing does, or it is no folder.

    What is written has no name, and is gone at once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            return None if file.write(bytes(_PROBE_BYTES)) == _PROBE_BYTES else Fault.FULL
    except OSError as error:
        return _FAULTS.get(error.errno or 0)


def store_error(folder: Path, what: str, error: Exception) -> StoreError:
    """The error to raise for one met while writing: a `DiskError` where the folder cannot be written.

    Args:
        folder: Where it was met.
        what: What could not be written, for a person.
        error: SQLite's or the system's.
    """
    fault = (_FAULTS.get(error.errno or 0) if isinstance(error, OSError) else _said(error)) or probe(folder)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if fault is None:
        return StoreError(f"{what}: {reason}; nothing of this step was kept")
    return DiskError(f"{what}: the disk is {fault.value} ({reason}); {_ADVICE}", fault.value)


def _said(error: Exception) -> Fault | None:
    """What SQLite's message names; "disk I/O error" and "unable to open" name nothing."""
    return Fault.FULL if "disk is full" in str(error) else None


class DiskWatch:
    """Whether a folder takes what it is given; each change is told once. Safe to use from several threads.

    Attributes:
        tell: Told ``disk-unusable`` and ``disk-usable``, with how many events of apps were refused so far.
        events_refused: Since this process began.
    """

    def __init__(self, folder: Path) -> None:
        self.tell: Callable[[dict[str, Any]], None] = lambda _event: None
        self.events_refused = 0
        self._folder = folder
        self._fault: str | None = None
        self._lock = threading.Lock()

    def failed(self, error: DiskError, *, events: int = 0) -> None:
        """Something could not be written, and with it so many events."""
        with self._lock:
            self.events_refused += events
        self._become(error.fault, str(error))

    def worked(self) -> None:
        """Something was written; small things may fit a disk that is full."""
        if self._fault is not None:
            self.look()

    def look(self) -> str | None:
        """A `Fault`'s value, found by trying; None where all is well."""
        found = probe(self._folder)
        self._become(None if found is None else found.value, "found by trying to write")
        return self._fault

    def _become(self, fault: str | None, reason: str) -> None:
        with self._lock:
            if fault == self._fault:
                return
            self._fault = fault
        counted = {"events_refused": self.events_refused}
        if fault is None:
            self.tell({"event": "disk-usable", **counted})
        else:
            self.tell({"event": "disk-unusable", "fault": fault, "reason": reason, **counted})
