"""Which board this is, told from what its kernel says and not from its host name."""

from __future__ import annotations

import os
import platform
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware.files import read_text

# Raspberry Pi revision code, bits 4-11 (new-style codes only; every board since the Pi 2 has one).
_PI_TYPES = {
    0x08: "pi-3b",
    0x0D: "pi-3b+",
    0x0E: "pi-3a+",
    0x11: "pi-4b",
    0x12: "pi-zero-2w",
    0x13: "pi-400",
    0x14: "pi-cm4",
    0x17: "pi-5",
    0x18: "pi-cm5",
    0x19: "pi-500",
}
_PI_SOCS = {2: "BCM2837", 3: "BCM2711", 4: "BCM2712"}
_PI_NEW_STYLE = 1 << 23

# The first pattern that matches one of the device tree's compatible strings names the board.
_JETSONS = (
    (r"nvidia,(p3450-0000|jetson-nano)", "jetson-nano", "NVIDIA Jetson Nano"),
    (r"nvidia,p2972-0000", "jetson-agx-xavier", "NVIDIA Jetson AGX Xavier"),
    (r"nvidia,p3509-0000\+p3668-000\d", "jetson-xavier-nx", "NVIDIA Jetson Xavier NX"),
    (r"nvidia,p3737-0000\+p3701-000\d", "jetson-agx-orin", "NVIDIA Jetson AGX Orin"),
    (r"nvidia,p3768-0000\+p3767-000[01](-super)?", "jetson-orin-nx", "NVIDIA Jetson Orin NX"),
    (r"nvidia,p3768-0000\+p3767-000[345](-super)?", "jetson-orin-nano", "NVIDIA Jetson Orin Nano"),
)


@dataclass(frozen=True)
class Board:
    """A machine's identity, as far as its kernel tells it.

    Attributes:
        model: Its name for a person, such as ``Raspberry Pi 5 Model B Rev 1.0``.
        kind: Its name for a program, such as ``pi-5``, ``jetson-orin-nano``, ``generic-x86`` or ``unknown``.
        machine: Instruction set as the running program sees it, such as ``aarch64``.
        cpu_count: Logical processors.
        memory_bytes: Main memory that the kernel manages, or None where it does not say.
        soc: System on chip or processor model, or None.
        revision: A Raspberry Pi's revision code in hexadecimal, or None.
        l4t: A Jetson's L4T release such as ``35.3.1``, or None.
        kernel: Kernel release, or None.
        emulated: The program's instruction set is not the processor's (QEMU user emulation): its time and energy
            say nothing about a real board.
    """

    model: str
    kind: str
    machine: str
    cpu_count: int
    memory_bytes: int | None = None
    soc: str | None = None
    revision: str | None = None
    l4t: str | None = None
    kernel: str | None = None
    emulated: bool = False

    @property
    def family(self) -> str:
        """``raspberry-pi``, ``jetson`` or ``generic``."""
        return {"pi": "raspberry-pi", "jetson": "jetson"}.get(self.kind.split("-", maxsplit=1)[0], "generic")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for records."""
        return asdict(self)


def identify(root: Path = Path("/"), machine: str | None = None) -> Board:
    """Tell the board from the files under ``root``; an unknown machine gets a generic kind, never an error.

    Args:
        root: Where ``/proc`` and ``/etc`` hang; tests give a tree of their own.
        machine: Instruction set; by default that of the running program.
    """
    machine = machine or platform.machine()
    cpuinfo = read_text(root / "proc/cpuinfo") or ""
    model, kind, soc, revision = _pi(root, cpuinfo) or _jetson(root) or _generic(machine, cpuinfo)
    return Board(
        model=model,
        kind=kind,
        machine=machine,
        cpu_count=len(re.findall(r"^processor\s*:", cpuinfo, re.M)) or os.cpu_count() or 1,
        memory_bytes=_memory_bytes(root),
        soc=soc,
        revision=revision,
        l4t=_l4t(root),
        kernel=read_text(root / "proc/sys/kernel/osrelease"),
        emulated=_is_emulated(root, machine, cpuinfo),
    )


_Identity = tuple[str, str, "str | None", "str | None"]  # model, kind, soc, revision


def _pi(root: Path, cpuinfo: str) -> _Identity | None:
    model = read_text(root / "proc/device-tree/model") or ""
    code = _pi_revision(root, cpuinfo)
    if not model.startswith("Raspberry Pi"):
        return None
    if code is None or not code & _PI_NEW_STYLE:
        return model, "pi-unknown", None, None if code is None else f"{code:x}"
    kind = _PI_TYPES.get(code >> 4 & 0xFF, "pi-unknown")
    return model, kind, _PI_SOCS.get(code >> 12 & 0xF), f"{code:x}"


def _pi_revision(root: Path, cpuinfo: str) -> int | None:
    try:
        raw = (root / "proc/device-tree/system/linux,revision").read_bytes()
    except OSError:
        raw = b""
    if len(raw) == 4:
        return int(struct.unpack(">I", raw)[0])
    found = re.search(r"^Revision\s*:\s*([0-9a-fA-F]+)\s*$", cpuinfo, re.M)
    return int(found[1], 16) if found else None


def _jetson(root: Path) -> _Identity | None:
    compatible = (read_text(root / "proc/device-tree/compatible") or "").split("\0")
    for pattern, kind, name in _JETSONS:
        if any(re.fullmatch(pattern, entry) for entry in compatible):
            soc = next((e.split(",")[1] for e in compatible if e.startswith("nvidia,tegra")), None)
            return read_text(root / "proc/device-tree/model") or name, kind, soc, None
    return None


def _generic(machine: str, cpuinfo: str) -> _Identity:
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.M)
    cpu = found[1].strip() if found else None
    if machine in ("x86_64", "amd64", "i386", "i486", "i586", "i686"):
        kind = "generic-x86"
    elif machine.startswith(("arm", "aarch64")):
        kind = "generic-arm"
    else:
        kind = "unknown"
    return cpu or f"{machine or 'unknown'} machine", kind, cpu, None


def _memory_bytes(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", read_text(root / "proc/meminfo") or "", re.M)
    return int(found[1]) << 10 if found else None


def _l4t(root: Path) -> str | None:
    # The BOARD field of this line is wrong on every board and is not looked at.
    text = read_text(root / "etc/nv_tegra_release") or ""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _is_emulated(root: Path, machine: str, cpuinfo: str) -> bool:
    # An emulator answers for uname; the kernel's own files still speak of the processor that is really there.
    kernel_is_x86 = (read_text(root / "proc/sys/kernel/arch") or "").startswith(("x86", "i"))
    x86_processor = kernel_is_x86 or re.search(r"^vendor_id\s*:", cpuinfo, re.M) is not None
    return machine.startswith(("arm", "aarch64")) and x86_processor
