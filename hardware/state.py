"""The machine's state that bears on time and power: clock rate, governor, temperature, throttling, power mode."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.firmware import Firmware

_CPUFREQ = "sys/devices/system/cpu"
_NVPMODEL_TIMEOUT_S = 2.0
# Bits of the Pi firmware's get_throttled; the same four stand 16 bits higher for "has happened since boot".
_THROTTLED_BITS = {0: "under-voltage", 1: "frequency-capped", 2: "throttled", 3: "soft-temperature-limit"}
_SINCE_BOOT = 16


def frequency_mhz(root: Path = Path("/")) -> float | None:
    """Mean clock of the processors in megahertz, or None where the kernel does not say."""
    values = []
    for path in (root / _CPUFREQ).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"):
        text = read_text(path)
        if text and text.isdigit():
            values.append(int(text) / 1000)
    return sum(values) / len(values) if values else None


def governor(root: Path = Path("/")) -> str | None:
    """The frequency governor, such as ``ondemand``; several are joined with a plus; None where there is none."""
    names = {read_text(path) for path in (root / _CPUFREQ).glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return "+".join(sorted(name for name in names if name)) or None


def temperatures_c(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius by thermal zone. One that cannot be read, or reads what no board survives, is left out."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name = read_text(zone / "type")
        try:
            value_c = read_number(zone / "temp", "temperature") / 1000
        except SensorError:
            continue
        if name and -40 < value_c < 150 and name not in found:
            found[name] = value_c
    return found


def hottest_c(root: Path = Path("/")) -> float | None:
    """The hottest zone's temperature, or None. A Jetson's ``PMIC`` zone always says 100 and is not looked at."""
    zones = temperatures_c(root)
    return max((value for name, value in zones.items() if not name.startswith("PMIC")), default=None)


def parse_throttled(answer: str) -> dict[str, frozenset[str]]:
    """What the Pi's firmware says to ``get_throttled``: conditions ``now`` and ``since boot``.

    Raises:
        SensorError: If the answer is anything but ``throttled=0x...``.
    """
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", answer.strip())
    if found is None:
        raise SensorError("throttled", f"get_throttled: expected throttled=0x..., got {answer[:40]!r}")
    bits = int(found[1], 16)
    now = frozenset(name for bit, name in _THROTTLED_BITS.items() if bits >> bit & 1)
    past = frozenset(name for bit, name in _THROTTLED_BITS.items() if bits >> (bit + _SINCE_BOOT) & 1)
    return {"now": now, "since boot": past}


def throttle_reader(root: Path, firmware: Firmware | str) -> Callable[[], frozenset[str]] | str:
    """A function that tells the throttling conditions of this moment, or the reason why there is none."""
    if isinstance(firmware, Firmware):
        return lambda: parse_throttled(firmware.ask("get_throttled"))["now"]
    paths = sorted((root / _CPUFREQ).glob("cpu[0-9]*/thermal_throttle/package_throttle_count"))
    if not paths:
        return f"{firmware}; no thermal_throttle counter either"
    path = paths[0]
    last = read_number(path, "throttled")

    def risen() -> frozenset[str]:
        nonlocal last
        before, last = last, read_number(path, "throttled")
        return frozenset({"throttled"}) if last > before else frozenset()

    return risen


def power_mode(root: Path = Path("/")) -> str | None:
    """A Jetson's power mode as ``nvpmodel -q`` names it. Its watts cap clocks; they measure nothing. None elsewhere."""
    program = root / "usr/sbin/nvpmodel"
    if not program.exists():
        return None
    try:
        done = subprocess.run([str(program), "-q"], capture_output=True, timeout=_NVPMODEL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"NV Power Mode:\s*(\S+)", done.stdout.decode("ascii", "replace"))
    return found[1] if found else None
