"""Whether the machine is on the mains, how full its battery is, and how busy its processors and its link are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hardware.files import read_text

_SUPPLIES = "sys/class/power_supply"
_WIRELESS_WAN = "DEVTYPE=wwan"
_DEFAULT_ROUTE = "00000000"


@dataclass(frozen=True)
class Supply:
    """What feeds the machine.

    Attributes:
        on_mains: Whether it is on the mains; None where its batteries do not say.
        battery: Charge of the emptiest battery, 0 to 1; None where there is none, or it does not say.
    """

    on_mains: bool | None
    battery: float | None


def supply(root: Path = Path("/")) -> Supply:
    """What feeds the machine under ``root``: without a battery of its own it can only be the mains."""
    statuses, charges = [], []
    for folder in sorted((root / _SUPPLIES).glob("*")):
        if read_text(folder / "type") != "Battery" or read_text(folder / "scope") == "Device":
            continue  # the battery of a mouse feeds nothing here
        statuses.append(read_text(folder / "status"))
        percent = read_text(folder / "capacity")
        if percent is not None and percent.isdigit() and int(percent) <= 100:
            charges.append(int(percent) / 100)
    if not statuses:
        return Supply(True, None)
    charge = min(charges, default=None)
    if "Discharging" in statuses:
        return Supply(False, charge)
    told = any(status in ("Charging", "Full", "Not charging") for status in statuses)
    return Supply(True if told else None, charge)


@dataclass(frozen=True)
class CpuTime:
    """Clock ticks of all processors since boot: idle, and in all."""

    idle: int
    total: int


def cpu_time(root: Path = Path("/")) -> CpuTime | None:
    """What /proc/stat says; None where it cannot be read."""
    words = (read_text(root / "proc/stat") or "").split("\n", 1)[0].split()
    if len(words) < 6 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:]):
        return None
    ticks = [int(word) for word in words[1:9]]  # guest time, which follows, is within user time
    return CpuTime(ticks[3] + ticks[4], sum(ticks))


def metered_link(root: Path = Path("/")) -> bool | None:
    """Whether the default route leaves through a modem; None without a route. Tethering to a phone cannot be told."""
    routes = [line.split() for line in (read_text(root / "proc/net/route") or "").splitlines()[1:]]
    names = [words[0] for words in routes if len(words) > 7 and words[1] == words[7] == _DEFAULT_ROUTE]
    if not names:
        return None
    uevent = read_text(root / "sys/class/net" / names[0] / "uevent") or ""
    return names[0].startswith("ppp") or _WIRELESS_WAN in uevent.splitlines()
