"""What the profiler reads of the machine beside sensors: counters, gauges over time, throttling, the wall clock."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hardware.errors import SensorError
from hardware.files import read_text
from hardware.firmware import find_firmware
from hardware.state import frequency_mhz, governor, hottest_c, power_mode, throttle_reader
from profiling.counters import Counters, cgroup_folder, smaps
from profiling.memory import CgroupPeak, NestedPeaks
from profiling.sampler import Gauge

_SLOW_HZ = 2.0  # temperature and clock rate change slowly, and reading them takes a file for every processor
_CLOCK_STEP_S = 0.5
_PAGE_BYTES = resource.getpagesize()


class Machine:
    """The machine under ``root``.

    Attributes:
        counters: Read at the edges of phases.
        cgroup_peaks: Peak memory of the control group by phase.
        gauges: Sampled over time.
        reasons: Why a quantity is absent.
    """

    def __init__(self, root: Path = Path("/"), process: str = "self") -> None:
        self._root = root
        self._process = process
        self.counters = Counters(root, process)
        self.cgroup_peaks = NestedPeaks(CgroupPeak(cgroup_folder(root, process)))
        self.reasons = dict(self.counters.reasons)
        if self.cgroup_peaks.reason is not None:
            self.reasons["cgroup_peak"] = self.cgroup_peaks.reason
        self.gauges = tuple(self._find_gauges())
        self._throttled = self._find_throttled()
        self._clock_offset_s = _clock_offset()
        self._flags: set[str] = set()
        self._memory_begin = smaps(root, process)
        if not self._memory_begin:
            self.reasons["proportional_memory"] = f"/proc/{process}/smaps_rollup cannot be read"

    def look(self) -> None:
        """Note conditions of this moment that would make a round's numbers no fair ones."""
        if abs(_clock_offset() - self._clock_offset_s) > _CLOCK_STEP_S:
            self._flags.add("clock-stepped")
            self._clock_offset_s = _clock_offset()
        if self._throttled is None:
            return
        try:
            self._flags |= self._throttled()
        except SensorError as error:
            self.reasons["throttling"] = str(error)

    @property
    def flags(self) -> tuple[str, ...]:
        """What `look` has noted so far."""
        return tuple(sorted(self._flags))

    def conditions(self) -> dict[str, Any]:
        """State by name over the time that was sampled; what is not known is absent.

        Proportional and private memory are those when this object was made and now: reading them is slow.
        """
        found: dict[str, Any] = {"governor": governor(self._root), "power_mode": power_mode(self._root)}
        for when, memory in (("begin", self._memory_begin), ("end", smaps(self._root, self._process))):
            found |= {f"{name}_{when}": value for name, value in memory.items()}
        for gauge in self.gauges:
            values = gauge.series.copy()[1]
            if gauge.series.name == "temperature_c" and values:
                found["temperature_c_max"] = max(values)
            if gauge.series.name == "frequency_mhz" and values:
                found["frequency_mhz_mean"], found["frequency_mhz_min"] = sum(values) / len(values), min(values)
        return {name: value for name, value in found.items() if value is not None}

    def _find_gauges(self) -> list[Gauge]:
        gauges = [Gauge("cpu_s", _cpu_s), Gauge("rss_bytes", self._rss_bytes)]
        slow: tuple[tuple[str, Callable[[Path], float | None], str], ...] = (
            ("temperature_c", hottest_c, "no readable zone in /sys/class/thermal"),
            ("frequency_mhz", frequency_mhz, "the kernel gives no clock rate in cpufreq"),
        )
        for name, read, why in slow:
            if read(self._root) is None:
                self.reasons[name.rsplit("_", 1)[0]] = why
            else:
                gauges.append(Gauge(name, partial(_need, read, self._root, why), _SLOW_HZ))
        return gauges

    def _find_throttled(self) -> Callable[[], frozenset[str]] | None:
        found = throttle_reader(self._root, find_firmware(self._root))
        if isinstance(found, str):
            self.reasons["throttling"] = found
            return None
        return found

    def _rss_bytes(self) -> float:
        words = (read_text(self._root / "proc" / self._process / "statm") or "").split()
        if len(words) < 2 or not words[1].isdigit():
            raise SensorError("rss", f"/proc/{self._process}/statm cannot be read")
        return float(int(words[1]) * _PAGE_BYTES)


def _need(read: Callable[[Path], float | None], root: Path, why: str) -> float:
    value = read(root)
    if value is None:
        raise SensorError("machine", why)
    return value


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system


def _clock_offset() -> float:
    """Wall clock less monotonic clock: steady unless someone sets the wall clock, or the machine slept."""
    return time.time() - time.monotonic()
