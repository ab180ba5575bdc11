"""Clock rate, governor, temperature, throttling and power mode, from fake trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.errors import SensorError
from hardware.firmware import ProgramFirmware
from hardware.state import (
    frequency_mhz,
    governor,
    hottest_c,
    parse_throttled,
    power_mode,
    temperatures_c,
    throttle_reader,
)
from tests.hardware.trees import program, put


def test_clock_and_governor(tmp_path: Path) -> None:
    """The clock is the mean over processors; processors that disagree on the governor show both."""
    assert frequency_mhz(tmp_path) is None
    assert governor(tmp_path) is None
    for i, (kilohertz, name) in enumerate(((1_500_000, "ondemand"), (600_000, "powersave"))):
        put(tmp_path, f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq", kilohertz)
        put(tmp_path, f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor", name)
    assert frequency_mhz(tmp_path) == 1050
    assert governor(tmp_path) == "ondemand+powersave"


def test_temperatures(tmp_path: Path) -> None:
    """Zones are read in degrees; unreadable and impossible ones are left out, and a Jetson's PMIC zone never counts."""
    for i, (name, millidegrees) in enumerate(
        [("cpu-thermal", "48312"), ("PMIC-Die", "100000"), ("broken", "x"), ("off", "-274000")]
    ):
        put(tmp_path, f"sys/class/thermal/thermal_zone{i}/type", name)
        put(tmp_path, f"sys/class/thermal/thermal_zone{i}/temp", millidegrees)
    assert temperatures_c(tmp_path) == {"cpu-thermal": 48.312, "PMIC-Die": 100.0}
    assert hottest_c(tmp_path) == 48.312
    assert hottest_c(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("answer", "now", "past"),
    [
        ("throttled=0x0", set(), set()),
        ("throttled=0x50000\n", set(), {"under-voltage", "throttled"}),
        ("throttled=0x50005", {"under-voltage", "throttled"}, {"under-voltage", "throttled"}),
        ("throttled=0xE0008", {"soft-temperature-limit"}, {"frequency-capped", "throttled", "soft-temperature-limit"}),
    ],
)
def test_throttled_bits(answer: str, now: set[str], past: set[str]) -> None:
    """The low bits are now, the high ones since boot."""
    assert parse_throttled(answer) == {"now": now, "since boot": past}


@pytest.mark.parametrize("answer", ["", "throttled=", "throttled=0xZZ", "throttled=0x5000012345", "error=1"])
def test_throttled_garbage(answer: str) -> None:
    """Anything else is an error."""
    with pytest.raises(SensorError, match="get_throttled"):
        parse_throttled(answer)


def test_throttling_readers(tmp_path: Path) -> None:
    """A Pi is asked through its firmware, an x86 processor by its counter's rise; else there is a reason."""
    assert "no thermal_throttle" in str(throttle_reader(tmp_path, "no firmware"))
    path = program(tmp_path, "vcgencmd", "echo throttled=0x1")
    ask = throttle_reader(tmp_path, ProgramFirmware(path))
    assert not isinstance(ask, str)
    assert ask() == {"under-voltage"}
    counter = put(tmp_path, "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", 7)
    risen = throttle_reader(tmp_path, "no firmware")
    assert not isinstance(risen, str)
    assert risen() == set()
    counter.write_text("8\n")
    assert risen() == {"throttled"}
    assert risen() == set()


def test_power_mode(tmp_path: Path) -> None:
    """Nvpmodel's name for the mode, or None where there is no such program or it fails."""
    assert power_mode(tmp_path) is None
    program(tmp_path, "usr/sbin/nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2")
    assert power_mode(tmp_path) == "MAXN_SUPER"
    program(tmp_path, "usr/sbin/nvpmodel", "exit 1")
    assert power_mode(tmp_path) is None
