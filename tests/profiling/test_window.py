"""The profiler measures what really happens in a phase, and says what it cannot."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest

from hardware.rapl import Rapl, find_rapl
from profiling.memory import PeakMemory
from profiling.network import NetworkBytes
from profiling.window import Profiler
from tests.hardware.trees import put, rapl

MIB = 1 << 20


def _touch(mib: int) -> None:
    block = bytearray(mib * MIB)
    block[::4096] = b"\1" * len(block[::4096])


def _burn(seconds: float) -> None:
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    while resource.getrusage(resource.RUSAGE_SELF).ru_utime - begin < seconds:
        sum(range(1000))


def _can_reset_peak() -> bool:
    memory = PeakMemory()
    memory.reset()
    return memory.reason is None


class Clock:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        """The time the test set."""
        return self.now_s


def test_elapsed_and_order() -> None:
    """Phases come in the order they began, nested ones included, with times of the given clock."""
    clock = Clock()
    profiler = Profiler(clock=clock)
    with profiler.phase("tune"):
        clock.now_s += 2
        with profiler.phase("step"):
            clock.now_s += 3
        assert [phase.name for phase in profiler.phases] == ["step"]
    with profiler.phase("gate"):
        clock.now_s += 1
    assert [(p.name, p.elapsed_s, p.level) for p in profiler.phases] == [("tune", 5, 0), ("step", 3, 1), ("gate", 1, 0)]


def test_cpu_of_all_threads() -> None:
    """CPU is the whole process's, agreeing with getrusage over the same span."""
    profiler = Profiler()
    begin = resource.getrusage(resource.RUSAGE_SELF)
    with profiler.phase("tune"):
        worker = threading.Thread(target=_burn, args=(0.05,), daemon=True)
        worker.start()
        worker.join()
    end = resource.getrusage(resource.RUSAGE_SELF)
    (phase,) = profiler.phases
    outer_s = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
    assert 0.05 <= phase.cpu_user_s + phase.cpu_system_s <= outer_s


@pytest.mark.skipif(not _can_reset_peak(), reason="/proc/self/clear_refs cannot be written here")
def test_peak_memory_by_phase() -> None:
    """Each phase has its own peak: what an earlier phase used and freed does not show in a later one."""
    profiler = Profiler()
    with profiler.phase("big"):
        _touch(64)
    with profiler.phase("small"):
        _touch(8)
    big, small = (phase.peak_rss_bytes or 0 for phase in profiler.phases)
    assert big - small >= 48 * MIB


@pytest.mark.skipif(not _can_reset_peak(), reason="/proc/self/clear_refs cannot be written here")
@pytest.mark.parametrize(("before", "inside", "after"), [(64, 8, 8), (8, 64, 8), (8, 8, 64)])
def test_peak_memory_nested(before: int, inside: int, after: int) -> None:
    """An outer phase keeps its peak wherever in it the peak lies, though inner phases reset the kernel's mark."""
    profiler = Profiler()
    with profiler.phase("calm"):
        _touch(8)
    with profiler.phase("outer"):
        _touch(before)
        with profiler.phase("inner"):
            _touch(inside)
        with profiler.phase("inner"):
            pass
        _touch(after)
    calm, outer, inner, _ = (phase.peak_rss_bytes or 0 for phase in profiler.phases)
    assert outer - calm >= 48 * MIB
    assert inner <= outer
    assert (inner - calm >= 48 * MIB) == (inside == 64)


def test_peak_memory_absent(tmp_path: Path) -> None:
    """Where the peak cannot be reset or read, it is None with the reason, not the process's lifelong peak."""
    put(tmp_path, "status", "VmHWM:\t  1000 kB")
    (tmp_path / "clear_refs").mkdir()
    profiler = Profiler(memory=PeakMemory(tmp_path))
    with profiler.phase("tune"):
        pass
    assert profiler.phases[0].peak_rss_bytes is None
    assert "clear_refs cannot be written" in profiler.unmeasured["peak_rss"]


def test_bytes_by_difference() -> None:
    """A phase has the difference of the connection's counters; TCP's are None where they are not counted."""
    counters = NetworkBytes(10, 20, 30, 40)
    profiler = Profiler(network=lambda: counters)
    with profiler.phase("query"):
        counters += NetworkBytes(1, 2, 3, 4)
    (phase,) = profiler.phases
    assert (phase.payload_up_bytes, phase.payload_down_bytes) == (1, 2)
    assert (phase.mqtt_up_bytes, phase.mqtt_down_bytes) == (3, 4)
    assert phase.tcp_up_bytes is None
    assert "tcp" in profiler.unmeasured


def test_bytes_that_fall() -> None:
    """Counters that fall within a phase give None with a reason, never a negative or a clamped number."""
    counters = NetworkBytes(10, 20, 30, 40, 50, 60)
    profiler = Profiler(network=lambda: counters)
    with profiler.phase("query"):
        counters = NetworkBytes()
    assert profiler.phases[0].mqtt_up_bytes is None
    assert "fell" in profiler.unmeasured["network"]


def test_energy_by_difference(tmp_path: Path) -> None:
    """A phase's energy is the difference of the first sensor's counter, and the source is named."""
    (counter,) = rapl(tmp_path)
    sensor = find_rapl(tmp_path)
    assert isinstance(sensor, Rapl)
    clock = Clock()
    profiler = Profiler(sensors=[sensor], clock=clock)
    with profiler.phase("tune"):
        counter.write_text("251000\n")
        clock.now_s += 1
    assert profiler.phases[0].energy_mj == pytest.approx(250)
    assert profiler.energy_source is not None
    assert (profiler.energy_source.name, profiler.energy_source.scope) == ("rapl", "cpu-package")


def test_energy_sensor_that_vanishes(tmp_path: Path) -> None:
    """A sensor that fails within a phase makes its energy None with a reason, and the work goes on."""
    (counter,) = rapl(tmp_path)
    sensor = find_rapl(tmp_path)
    assert isinstance(sensor, Rapl)
    profiler = Profiler(sensors=[sensor])
    with profiler.phase("tune"):
        counter.unlink()
    assert profiler.phases[0].energy_mj is None
    assert "energy_uj" in profiler.unmeasured["energy"]


def test_nothing_to_measure_with() -> None:
    """Without connection and sensor, the record says why, citing discovery's reasons."""
    profiler = Profiler(reasons={"rapl": "a virtual machine"})
    with profiler.phase("tune"):
        pass
    assert profiler.phases[0].energy_mj is None
    assert profiler.phases[0].payload_up_bytes is None
    assert profiler.unmeasured["energy"] == "rapl: a virtual machine"
    assert "network" in profiler.unmeasured


def test_failed_phase_is_recorded() -> None:
    """A phase whose body raises is recorded, since its cost was paid, and the error goes on."""
    profiler = Profiler()
    with pytest.raises(RuntimeError, match="boom"), profiler.phase("fetch"):
        raise RuntimeError("boom")
    assert [phase.name for phase in profiler.phases] == ["fetch"]
