"""Counters, gauges and conditions of the machine, on fake trees and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.errors import SensorError
from profiling import machine as machine_module
from profiling.counters import MEANINGS, Counters, difference, smaps
from profiling.machine import Machine
from profiling.window import Profiler
from tests.hardware.trees import program, put

_NET = """\
Inter-|   Receive                                           |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: {lo}      10    0    0    0     0          0         0  {lo}      10    0    0    0     0       0          0
  eth0: {down}   100    0    0    0     0          0         0  {up}      90    0    0    0     0       0          0
 wlan0:    7       1    0    0    0     0          0         0     3       1    0    0    0     0       0          0
"""


def _tree(root: Path, *, net: tuple[int, int, int] = (50, 1000, 400), user_usec: int = 5_000_000) -> Path:
    lo, down, up = net
    put(root, "proc/self/io", "rchar: 99\nwchar: 99\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1")
    put(root, "proc/self/cgroup", "0::/user.slice/coda")
    put(
        root,
        "sys/fs/cgroup/user.slice/coda/cpu.stat",
        f"usage_usec {user_usec + 10}\nuser_usec {user_usec}\nsystem_usec 10\nnr_periods 0",
    )
    for name in ("cpu", "memory", "io"):
        put(
            root,
            f"proc/pressure/{name}",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=9",
        )
    put(root, "proc/net/dev", _NET.format(lo=lo, down=down, up=up))
    put(root, "proc/self/statm", "5000 2048 100 1 0 900 0")
    return root


def test_counters(tmp_path: Path) -> None:
    """Every counter is read with its unit; loopback is kept apart from the other interfaces."""
    values = Counters(_tree(tmp_path)).read()
    assert set(values) == set(MEANINGS)
    assert (values["io_read_bytes"], values["io_write_bytes"]) == (4096, 8192)
    assert values["cgroup_cpu_user_s"] == pytest.approx(5)
    assert values["stall_memory_s"] == pytest.approx(1.5)
    assert (values["interface_down_bytes"], values["interface_up_bytes"], values["loopback_bytes"]) == (1007, 403, 50)


def test_counters_that_are_not_kept(tmp_path: Path) -> None:
    """What the machine does not keep is absent, with a reason for each group."""
    counters = Counters(tmp_path)
    assert set(counters.read()) == {
        "context_switches_voluntary",
        "context_switches_involuntary",
        "page_faults_major",
    }
    assert set(counters.reasons) == {"io", "cgroup", "stall", "interface"}


def test_difference_leaves_out_what_fell() -> None:
    """A counter that fell or vanished between the edges is left out, never negative."""
    assert difference({"a": 5, "b": 5, "c": 1}, {"a": 7, "b": 4}) == {"a": 2}


def test_counters_in_a_phase(tmp_path: Path) -> None:
    """A phase carries what was counted within it."""
    machine = Machine(_tree(tmp_path))
    profiler = Profiler(machine=machine)
    with profiler.phase("fetch"):
        _tree(tmp_path, net=(60, 250_000, 900), user_usec=6_250_000)
    counters = profiler.phases[0].counters
    assert counters["interface_down_bytes"] == 249_000
    assert counters["cgroup_cpu_user_s"] == pytest.approx(1.25)
    assert counters["loopback_bytes"] == 10


def test_smaps(tmp_path: Path) -> None:
    """Proportional and private memory in bytes; nothing where the kernel does not tell."""
    put(
        tmp_path,
        "proc/self/smaps_rollup",
        "55d-7ff ---p 00000000 00:00 0    [rollup]\nRss:  900 kB\nPss:  500 kB\nPrivate_Clean: 100 kB\n"
        "Private_Dirty:  200 kB\nSwap:   0 kB",
    )
    assert smaps(tmp_path) == {"pss_bytes": 512_000, "private_bytes": 307_200, "swap_bytes": 0}
    assert smaps(tmp_path / "none") == {}


def test_conditions_and_gauges(tmp_path: Path) -> None:
    """Temperature and clock rate are sampled, and their extremes stand in the round's conditions."""
    _tree(tmp_path)
    put(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    zone = put(tmp_path, "sys/class/thermal/thermal_zone0/temp", 45_000)
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1_500_000)
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand")
    machine = Machine(tmp_path)
    ticks = iter(range(1000))
    for millidegrees in (45_000, 61_500, 50_000):
        zone.write_text(f"{millidegrees}\n")
        for gauge in machine.gauges:
            gauge.sample(lambda: float(next(ticks)))
    put(tmp_path, "proc/self/smaps_rollup", "Pss:  300 kB")
    assert machine.conditions() == {
        "pss_bytes_end": 307_200,
        "private_bytes_end": 0,
        "swap_bytes_end": 0,
        "governor": "ondemand",
        "temperature_c_max": 61.5,
        "frequency_mhz_mean": 1500,
        "frequency_mhz_min": 1500,
    }
    rss = next(gauge for gauge in machine.gauges if gauge.series.name == "rss_bytes")
    assert rss.series.copy()[1][0] % 2048 == 0
    zone.unlink()
    hot = next(gauge for gauge in machine.gauges if gauge.series.name == "temperature_c")
    with pytest.raises(SensorError, match="thermal"):
        hot.read()


def test_throttling_flags_the_round(tmp_path: Path) -> None:
    """A board that throttles during a phase flags the round; one that cannot tell says so."""
    _tree(tmp_path)
    flag = tmp_path / "flag"
    flag.write_text("0x50000")
    program(tmp_path, "usr/bin/vcgencmd", f'case $1 in version) echo 1;; *) echo "throttled=$(cat {flag})";; esac')
    profiler = Profiler(machine=Machine(tmp_path))
    with profiler.phase("tune"):
        pass
    assert profiler.round_fields()["flags"] == ()
    with profiler.phase("gate"):
        flag.write_text("0x50005")
    assert profiler.round_fields()["flags"] == ("throttled", "under-voltage")
    flag.write_text("nonsense")
    with profiler.phase("report"):
        pass
    assert "get_throttled" in profiler.unmeasured["throttling"]
    assert "thermal_throttle" in Machine(tmp_path / "none").reasons["throttling"]


def test_clock_step_flags_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that is set during a round flags it."""
    machine = Machine(_tree(tmp_path))
    machine.look()
    assert not machine.flags
    offset_s = machine_module._clock_offset()
    monkeypatch.setattr(machine_module, "_clock_offset", lambda: offset_s + 3600)
    machine.look()
    assert machine.flags == ("clock-stepped",)


def test_this_machine() -> None:
    """On the real machine everything that is there is read, and the rest has a reason."""
    machine = Machine()
    profiler = Profiler(machine=machine)
    with profiler.phase("tune"):
        sum(range(10_000))
    known = profiler.phases[0].counters
    groups = {name.split("_")[0] for name in MEANINGS} - {name.split("_")[0] for name in known}
    assert all(any(reason.startswith(group) or group == "loopback" for reason in machine.reasons) for group in groups)


class _Cgroup:
    """A control group's memory.peak as Linux 6.12 shows it: a write begins a new peak."""

    def __init__(self, root: Path) -> None:
        self.path = put(_tree(root), "sys/fs/cgroup/user.slice/coda/memory.peak", 1 << 20)

    def use(self, peak_bytes: int) -> None:
        """What the kernel would tell from now on."""
        self.path.write_text(f"{peak_bytes}\n")


def test_cgroup_peak_by_phase(tmp_path: Path) -> None:
    """The control group's peak is reset when a phase begins and read when it ends; outer phases keep inner peaks."""
    cgroup = _Cgroup(tmp_path)
    profiler = Profiler(machine=Machine(tmp_path))
    with profiler.phase("outer"):
        cgroup.use(90 << 20)
        with profiler.phase("inner"):
            assert cgroup.path.read_bytes().startswith(b"reset")
            cgroup.use(50 << 20)
    assert [phase.cgroup_peak_bytes for phase in profiler.phases] == [90 << 20, 50 << 20]
    assert "cgroup_peak" not in profiler.unmeasured


def test_cgroup_peak_absent(tmp_path: Path) -> None:
    """Without the file there is no peak, and the reason names what is needed."""
    profiler = Profiler(machine=Machine(_tree(tmp_path)))
    with profiler.phase("tune"):
        pass
    assert profiler.phases[0].cgroup_peak_bytes is None
    assert "Linux 6.12" in profiler.unmeasured["cgroup_peak"]
