"""A clock that whoever drives a run sets, and the device's process reads: a file of one number, mapped by both."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edge.scheduling.known_time import Reading

BEGIN_S = 1_800_000_000.0
_TIME = struct.Struct("<d")


class SharedClock:
    """Unix seconds in a file.

    Args:
        path: The file; made, and set to `BEGIN_S`, if absent.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_TIME.pack(BEGIN_S))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _TIME.size)

    @property
    def unix_s(self) -> float:
        """What time it is."""
        now_s: float = _TIME.unpack(self._memory[:])[0]
        return now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._memory[:] = _TIME.pack(self.unix_s + seconds)

    def reading(self) -> Reading:
        """As the device reads the machine's clocks."""
        now_s = self.unix_s
        return Reading(now_s, now_s - BEGIN_S, "endurance", confirmed=True)
