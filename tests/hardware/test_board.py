"""Boards are told by what their kernels say, and an unknown one is no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.board import identify
from tests.hardware.trees import ARM_CPUINFO, X86_CPUINFO, jetson, pi, put


@pytest.mark.parametrize(
    ("model", "revision", "kind", "soc"),
    [
        ("Raspberry Pi 3 Model B Rev 1.2", 0xA02082, "pi-3b", "BCM2837"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 0xA020D3, "pi-3b+", "BCM2837"),
        ("Raspberry Pi 4 Model B Rev 1.4", 0xC03114, "pi-4b", "BCM2711"),
        ("Raspberry Pi Zero 2 W Rev 1.0", 0x902120, "pi-zero-2w", "BCM2837"),
        ("Raspberry Pi 400 Rev 1.0", 0xC03130, "pi-400", "BCM2711"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", 0xB03140, "pi-cm4", "BCM2711"),
        ("Raspberry Pi 5 Model B Rev 1.0", 0xC04170, "pi-5", "BCM2712"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", 0xC04180, "pi-cm5", "BCM2712"),
        ("Raspberry Pi 500 Rev 1.0", 0xD04190, "pi-500", "BCM2712"),
        ("Raspberry Pi 9 Rev 1.0", 0xC0FFF0, "pi-unknown", None),
        ("Raspberry Pi Model B Rev 2", 0x000E, "pi-unknown", None),
    ],
)
def test_pi_by_revision(tmp_path: Path, model: str, revision: int, kind: str, soc: str | None) -> None:
    """A Pi's revision code gives kind and chip; an unknown or old code keeps the family."""
    board = identify(pi(tmp_path, model, revision), machine="aarch64")
    assert (board.model, board.kind, board.soc, board.revision) == (model, kind, soc, f"{revision:x}")
    assert (board.family, board.cpu_count, board.memory_bytes) == ("raspberry-pi", 4, 3884384 * 1024)


def test_pi_revision_from_cpuinfo(tmp_path: Path) -> None:
    """Without the device tree's code, the Revision line of /proc/cpuinfo serves."""
    put(tmp_path, "proc/device-tree/model", b"Raspberry Pi 4 Model B Rev 1.1\0")
    put(tmp_path, "proc/cpuinfo", ARM_CPUINFO + "Revision\t: c03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1")
    assert identify(tmp_path, machine="armv7l").kind == "pi-4b"


@pytest.mark.parametrize(
    ("compatible", "kind"),
    [
        ("nvidia,p3450-0000", "jetson-nano"),
        ("nvidia,jetson-nano", "jetson-nano"),
        ("nvidia,p2972-0000", "jetson-agx-xavier"),
        ("nvidia,p3509-0000+p3668-0001", "jetson-xavier-nx"),
        ("nvidia,p3737-0000+p3701-0005", "jetson-agx-orin"),
        ("nvidia,p3768-0000+p3767-0000", "jetson-orin-nx"),
        ("nvidia,p3768-0000+p3767-0001-super", "jetson-orin-nx"),
        ("nvidia,p3768-0000+p3767-0003", "jetson-orin-nano"),
        ("nvidia,p3768-0000+p3767-0005-super", "jetson-orin-nano"),
    ],
)
def test_jetson_by_compatible(tmp_path: Path, compatible: str, kind: str) -> None:
    """A Jetson is matched on its compatible strings, not on its model string."""
    release = "# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64"
    board = identify(jetson(tmp_path, compatible, "nvidia,tegra234", l4t=release), machine="aarch64")
    assert (board.kind, board.family, board.soc, board.l4t) == (kind, "jetson", "tegra234", "35.3.1")


def test_generic_machines(tmp_path: Path) -> None:
    """An x86 host and an unknown ARM board get generic kinds; another architecture is unknown."""
    put(tmp_path / "x86", "proc/cpuinfo", X86_CPUINFO)
    put(tmp_path / "arm", "proc/cpuinfo", ARM_CPUINFO + "Hardware\t: Rockchip RK3588")
    x86, arm = identify(tmp_path / "x86", "x86_64"), identify(tmp_path / "arm", "aarch64")
    assert (x86.kind, x86.cpu_count, x86.emulated) == ("generic-x86", 4, False)
    assert x86.model.startswith("Intel(R) Core(TM) i5-8250U")
    assert (arm.kind, arm.model, arm.emulated) == ("generic-arm", "Rockchip RK3588", False)
    assert identify(tmp_path / "none", "riscv64").kind == "unknown"


def test_emulation_is_seen(tmp_path: Path) -> None:
    """An ARM program over an x86 kernel or processor runs under user emulation."""
    put(tmp_path / "a", "proc/cpuinfo", X86_CPUINFO)
    put(tmp_path / "b", "proc/cpuinfo", ARM_CPUINFO)
    put(tmp_path / "b", "proc/sys/kernel/arch", "x86_64")
    put(tmp_path / "c", "proc/cpuinfo", ARM_CPUINFO)
    put(tmp_path / "c", "proc/sys/kernel/arch", "aarch64")
    assert [identify(tmp_path / name, "aarch64").emulated for name in "abc"] == [True, True, False]


def test_garbled_device_tree(tmp_path: Path) -> None:
    """A truncated revision and bytes that are no text give a generic board, not an exception."""
    put(tmp_path, "proc/device-tree/model", b"\xff\xfe\x00")
    put(tmp_path, "proc/device-tree/compatible", b"\x00\xff")
    put(tmp_path, "proc/device-tree/system/linux,revision", b"\x00\xc0")
    assert identify(tmp_path, "aarch64").kind == "generic-arm"


def test_this_machine() -> None:
    """The real root is identified, and its plain values have no surprises."""
    values = identify().to_dict()
    assert values["cpu_count"] >= 1
    assert values["model"]
