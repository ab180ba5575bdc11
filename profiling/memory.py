"""Peak resident memory of this process, resettable: the kernel's high-water mark, cleared at every window's edge."""

from __future__ import annotations

import re
from pathlib import Path

_CLEAR_PEAK = "5"


class PeakMemory:
    """Reads and resets the peak of the process whose ``/proc`` folder it is given.

    Attributes:
        reason: Why it cannot, or None while it can.
    """

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        self._status = process / "status"
        self._clear = process / "clear_refs"
        self.reason: str | None = None

    def reset(self) -> None:
        """Begin a new peak at what is resident now."""
        try:
            self._clear.write_text(_CLEAR_PEAK)
        except OSError as error:
            self.reason = f"{self._clear} cannot be written ({error.strerror}), so the peak cannot be reset"

    def peak_bytes(self) -> int | None:
        """Largest resident size since the last reset, or None; then ``reason`` says why."""
        if self.reason is not None:
            return None
        try:
            found = re.search(r"^VmHWM:\s*(\d+) kB", self._status.read_text(), re.M)
        except OSError as error:
            self.reason = f"{self._status} cannot be read ({error.strerror})"
            return None
        if found is None:
            self.reason = f"{self._status} has no VmHWM line"
            return None
        return int(found[1]) << 10
