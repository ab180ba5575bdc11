"""What the profiler costs: every sensor faked, ten samples a second, at most 1% of a processor and 8 MB."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hardware.correction import CorrectedPower
from hardware.firmware import DeviceFirmware
from hardware.hwmon import find_hwmon
from hardware.ina3221 import Ina3221
from hardware.pmic import COMMUNITY_CORRECTION, Pi5Pmic
from hardware.rapl import Rapl
from hardware.sensor import Sensor
from profiling.machine import Machine
from profiling.network import NetworkBytes
from profiling.window import Profiler
from tests.hardware.test_pmic import ANSWERS, Mailbox
from tests.hardware.trees import ina_hwmon, put, rapl

_HZ = 10
_MOST_TICK_S = 0.01 / _HZ  # 1% of a processor
_MOST_BYTES = 8 << 20
_MOST_EDGE_S = 0.001


@pytest.fixture
def profiler(tmp_path: Path) -> Profiler:
    """A profiler over one sensor of every kind and all gauges, on fake files."""
    packages = [path.parent for path in rapl(tmp_path, packages=2)]
    ina_hwmon(tmp_path, "1-0040", 1, {"CPU": (5000, 100), "GPU": (5000, 100), "SOC": (5000, 100)})
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "ina226")
    put(tmp_path, "sys/class/hwmon/hwmon0/power1_input", 1_000_000)
    put(tmp_path, "sys/class/hwmon/hwmon0/energy1_input", 1_000_000)
    put(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", 50_000)
    put(tmp_path, "proc/self/statm", "5000 2048 100 1 0 900 0")
    for number in range(4):
        put(tmp_path, f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq", 1_500_000)
    firmware = DeviceFirmware(put(tmp_path, "dev/vcio_gencmd", ""), Mailbox(ANSWERS))
    hwmon = find_hwmon(tmp_path)
    assert isinstance(hwmon, list)
    pmic = CorrectedPower(Pi5Pmic(firmware), COMMUNITY_CORRECTION)
    sensors: list[Sensor] = [pmic, Ina3221(tmp_path), Rapl(packages), *hwmon]
    return Profiler(network=NetworkBytes, sensors=sensors, machine=Machine(tmp_path), hz=_HZ)


def test_sampling(benchmark: Any, profiler: Profiler) -> None:
    """One round of samples of everything takes at most a hundredth of the sampling period."""
    now_s = 0.0

    def clock() -> float:
        return now_s

    def tick() -> None:
        nonlocal now_s
        now_s += 1 / _HZ
        for probe in profiler.probes:
            probe.sample(clock)

    benchmark(tick)
    spent = []
    for _ in range(100):
        begin_s = time.thread_time()
        tick()
        spent.append(time.thread_time() - begin_s)
    benchmark.extra_info["processor_share"] = median(spent) * _HZ
    assert median(spent) <= _MOST_TICK_S


def test_window_edges(benchmark: Any, profiler: Profiler) -> None:
    """An empty phase reads as less than a millisecond: the profiler's own work falls outside its windows."""

    def empty() -> None:
        with profiler.phase("empty"):
            pass

    benchmark(empty)
    read_s = median(phase.elapsed_s for phase in profiler.phases)
    benchmark.extra_info["reads_s"] = read_s
    assert read_s <= _MOST_EDGE_S


def test_memory(benchmark: Any, profiler: Profiler) -> None:
    """An hour of samples, thinned where there are too many, stays under 8 MB."""
    now_s = 0.0

    def hour() -> None:
        nonlocal now_s
        for _ in range(3600 * _HZ):
            now_s += 1 / _HZ
            for probe in profiler.probes:
                probe.series.append(now_s, 1.0)

    tracemalloc.start()
    try:
        benchmark.pedantic(hour, rounds=1)
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    benchmark.extra_info["bytes"] = used_bytes
    assert used_bytes <= _MOST_BYTES
