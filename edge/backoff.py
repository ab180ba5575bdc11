"""How long to wait before the service starts again after it crashed, or was killed for hanging: longer each time.

systemd restarts it always and after the same few seconds (it can grow them itself only from version 254 on, which
Bookworm has not). An orderly end and a reboot begin the count anew.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from edge.scheduling.known_time import boot_id

FIRST_S = 10.0  # before the second restart in a row; the first is systemd's own
MOST_S = 600.0
STEADY_S = 600.0  # a run as long as this was a good one
_FILE = "starts.json"


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Restarts:
    """Counts runs that ended badly.

    Args:
        folder: Where the count is kept; None where nobody restarts the service.
        clock: Seconds since the board booted.
        boot: Names that boot; this machine's by default.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = _uptime_s, boot: str | None = None) -> None:
        self._path = None if folder is None else folder / _FILE
        self._clock = clock
        self._boot = boot_id() if boot is None else boot

    def begin(self) -> tuple[int, float]:
        """A run begins: how many ended badly before it, one after the other, and how many seconds it should wait."""
        if self._path is None:
            return 0, 0.0
        crashes, now_s = 0, self._clock()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            last = json.loads(self._path.read_bytes())
            if last["boot"] == self._boot:
                crashes = 1 if now_s - float(last["began_s"]) >= STEADY_S else int(last["crashes"]) + 1
        wait_s = delay_s(crashes)
        with contextlib.suppress(OSError):
            self._path.write_text(json.dumps({"boot": self._boot, "crashes": crashes, "began_s": now_s + wait_s}))
        return crashes, wait_s

    def ended_well(self) -> None:
        """The run was told to stop, or had nothing left to do."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def delay_s(crashes: int) -> float:
    """Seconds to wait after so many bad runs in a row."""
    return 0.0 if crashes < 2 else min(FIRST_S * 2.0 ** min(crashes - 2, 30), MOST_S)
