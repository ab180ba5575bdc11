"""The device's state as the policy looks at it, read from the machine and the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.scheduling.policy import State
from hardware.errors import SensorError
from hardware.firmware import find_firmware
from hardware.state import hottest_c, throttle_reader
from hardware.supply import cpu_time, metered_link, supply

DriftReader = Callable[[], float | None]


class Conditions:
    """Reads the machine; how idle it is, over the time since the last look.

    Args:
        root: Where the machine's files are; another folder in tests.
        metered: What the owner says of the link; None to find out.
        drift: Tells how much the served model has aged.
    """

    def __init__(self, root: Path, metered: bool | None, drift: DriftReader) -> None:
        self._root = root
        self._metered = metered
        self._drift = drift
        self._cpu = cpu_time(root)
        found = throttle_reader(root, find_firmware(root))
        self._throttled = None if isinstance(found, str) else found

    def look(self, *, new_samples: int, data_left_bytes: int | None, first_round: bool) -> State:
        """The device now."""
        fed, now = supply(self._root), time.localtime()
        return State(
            minute=now.tm_hour * 60 + now.tm_min,
            new_samples=new_samples,
            on_mains=fed.on_mains,
            battery=fed.battery,
            idle_cpu=self._idle_cpu(),
            temperature_c=hottest_c(self._root),
            throttled=self._throttling(),
            metered=metered_link(self._root) if self._metered is None else self._metered,
            data_left_bytes=data_left_bytes,
            drift=self._drift(),
            first_round=first_round,
        )

    def _idle_cpu(self) -> float | None:
        before, now = self._cpu, cpu_time(self._root)
        if before is None or now is None or now.total <= before.total:
            return None
        self._cpu = now
        return min(1.0, max(0.0, (now.idle - before.idle) / (now.total - before.total)))

    def _throttling(self) -> frozenset[str] | None:
        try:
            return None if self._throttled is None else self._throttled()
        except SensorError:
            return None
