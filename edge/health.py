"""What the machine itself may be short of: disk, volts, cool air, memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edge.storage.disk import Fault, probe
from hardware.errors import SensorError
from hardware.files import read_text
from hardware.firmware import find_firmware
from hardware.state import hottest_c, parse_throttled
from hardware.supply import supply

LEAST_FREE_BYTES = 64 << 20  # a model, its patch, matched samples and the database's log
LEAST_MEMORY_BYTES = 100 << 20
_TOO_HOT_C = 80.0
_GOES_ON = "rankings go on, events are refused and rounds wait"
_MAKE_ROOM = "make room: journalctl --vacuum-size=50M; apt-get clean"
_NO_DISK = {
    Fault.READ_ONLY: "a dying card? see `dmesg`, copy what you need, and change the card",
    Fault.DENIED: "run this as root or as the service's user, or give the folder to that user",
    Fault.FAILING: "the card fails: see `dmesg`, and change it",
}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name.
        ok: Whether all is well; None where it could not be told.
        detail: What was found.
        advice: What to do; "" where nothing is to be done.
    """

    check: str
    ok: bool | None
    detail: str
    advice: str = ""


def disk(state_dir: Path) -> Finding:
    """Whether the device's folder can be written, and has room."""
    folder = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if not folder.is_dir():
        return Finding("disk", False, f"{folder} is not a folder", "move it away, or correct state_dir")
    free = shutil.disk_usage(folder).free
    fault = probe(folder)
    if fault in _NO_DISK:
        return Finding("disk", False, f"{folder} is {fault.value}; {_GOES_ON}", _NO_DISK[fault])
    if fault is Fault.FULL:
        return Finding("disk", False, f"{folder} is full, {free >> 10} KiB free; {_GOES_ON}", _MAKE_ROOM)
    if free < LEAST_FREE_BYTES:
        detail = f"{free >> 20} MiB free, {LEAST_FREE_BYTES >> 20} are needed"
        return Finding("disk", False, detail, _MAKE_ROOM)
    return Finding("disk", True, f"{free >> 20} MiB free")


def power(root: Path) -> Finding:
    """What feeds the board, and whether it was ever too weak."""
    fed, firmware = supply(root), find_firmware(root)
    if fed.on_mains is False:
        charge = "of unknown charge" if fed.battery is None else f"at {fed.battery:.0%}"
        return Finding("power", True, f"on battery, {charge}; the policy decides")
    if isinstance(firmware, str):
        return Finding("power", True, "on the mains; this board does not tell of brown-outs")
    try:
        conditions = parse_throttled(firmware.ask("get_throttled"))
    except SensorError as error:
        return Finding("power", None, str(error))
    low = "under-voltage" in conditions["now"] | conditions["since boot"]
    advice = "use the board's own power supply and a short, thick cable; unplug USB loads" if low else ""
    return Finding("power", not low, "under-voltage since boot" if low else "no under-voltage since boot", advice)


def heat(root: Path) -> Finding:
    """How hot the board is."""
    hottest = hottest_c(root)
    if hottest is None:
        return Finding("heat", None, "this machine tells no temperature")
    advice = "give the board a heat sink or a fan, or train at night: [policy] hours" if hottest > _TOO_HOT_C else ""
    return Finding("heat", hottest <= _TOO_HOT_C, f"{hottest:.0f} C", advice)


def memory(root: Path) -> Finding:
    """How much memory a round could have."""
    lines = (read_text(root / "proc/meminfo") or "").splitlines()
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    if not found or not found[0].isdigit():
        return Finding("memory", None, "/proc/meminfo does not say")
    free = int(found[0]) << 10
    advice = "stop other programs, or add swap on zram" if free < LEAST_MEMORY_BYTES else ""
    return Finding("memory", free >= LEAST_MEMORY_BYTES, f"{free >> 20} MiB available", advice)
