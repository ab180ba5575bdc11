"""Peak resident memory of this process, resettable: the kernel's high-water mark, cleared at every window's edge."""

from __future__ import annotations

import os
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


class CgroupPeak:
    """Peak memory of the process's control group, files' cache and kernel memory included (version 2, ``memory.peak``).

    Since Linux 6.12 a write to an open descriptor resets the peak as seen through that descriptor.

    Attributes:
        reason: Why it cannot be had, or None while it can.
    """

    def __init__(self, folder: Path | None) -> None:
        self.reason: str | None = None
        self._descriptor: int | None = None
        if folder is None:
            self.reason = "the process is in no control group of version 2"
            return
        path = folder / "memory.peak"
        try:
            self._descriptor = os.open(path, os.O_RDWR)
            os.pwrite(self._descriptor, b"reset\n", 0)
        except OSError as error:
            self.reason = f"{path} cannot be reset ({error.strerror}); Linux 6.12 and the memory controller are needed"
            self.close()

    def reset(self) -> None:
        """Begin a new peak at what is used now."""
        if self._descriptor is not None:
            try:
                os.pwrite(self._descriptor, b"reset\n", 0)
            except OSError as error:
                self.reason = f"memory.peak cannot be reset ({error.strerror})"

    def peak_bytes(self) -> int | None:
        """Largest use since the last reset, or None; then ``reason`` says why."""
        if self._descriptor is None or self.reason is not None:
            return None
        try:
            text = os.pread(self._descriptor, 32, 0).strip()
        except OSError as error:
            self.reason = f"memory.peak cannot be read ({error.strerror})"
            return None
        return int(text) if text.isdigit() else None

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


class NestedPeaks:
    """Peaks of phases that nest: a phase's own reset of the kernel's mark must not hide a peak from those around it."""

    def __init__(self, memory: PeakMemory | CgroupPeak) -> None:
        self._memory = memory
        self._open: list[int | None] = []

    def begin(self) -> None:
        """Open a phase within those that are open."""
        self._fold()
        self._memory.reset()
        self._open.append(0)

    def end(self) -> int | None:
        """Close the innermost phase and return its peak in bytes, or None where it could not be measured."""
        self._fold()
        return self._open.pop()

    @property
    def reason(self) -> str | None:
        """Why peaks cannot be measured, or None while they can."""
        return self._memory.reason

    def _fold(self) -> None:
        """Carry the peak since the last reset into every phase that is open: each of them contains it."""
        peak = self._memory.peak_bytes() if self._open else None
        self._open = [None if known is None or peak is None else max(known, peak) for known in self._open]
