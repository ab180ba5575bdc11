"""Fake file trees that hold what real boards' kernels print."""

from __future__ import annotations

import struct
from pathlib import Path

X86_CPUINFO = "".join(
    f"processor\t: {i}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\n\n"
    for i in range(4)
)
ARM_CPUINFO = "".join(f"processor\t: {i}\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\n" for i in range(4))


def put(root: Path, name: str, content: str | bytes | int) -> Path:
    """Write one file of the tree, with its folders."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
    return path


def pi(root: Path, model: str, revision: int) -> Path:
    """A Raspberry Pi by its device tree."""
    put(root, "proc/device-tree/model", model.encode() + b"\0")
    put(root, "proc/device-tree/system/linux,revision", struct.pack(">I", revision))
    put(root, "proc/cpuinfo", ARM_CPUINFO)
    put(root, "proc/meminfo", "MemTotal:        3884384 kB")
    return root


def jetson(root: Path, *compatible: str, l4t: str | None = None) -> Path:
    """A Jetson by its device tree."""
    put(root, "proc/device-tree/model", b"NVIDIA Jetson Developer Kit\0")
    put(root, "proc/device-tree/compatible", b"".join(entry.encode() + b"\0" for entry in compatible))
    put(root, "proc/cpuinfo", ARM_CPUINFO)
    if l4t is not None:
        put(root, "etc/nv_tegra_release", l4t)
    return root


def rapl(root: Path, *, energy_uj: int = 1000, range_uj: int = 262_143_328_850, packages: int = 1) -> list[Path]:
    """RAPL as powercap shows it: packages, a core subdomain each, and psys. Returns the packages' energy files."""
    base = "sys/class/powercap"
    counters = []
    for i in range(packages):
        for domain, name in ((f"intel-rapl:{i}", f"package-{i}"), (f"intel-rapl:{i}:0", "core")):
            put(root, f"{base}/{domain}/name", name)
            put(root, f"{base}/{domain}/max_energy_range_uj", range_uj)
            path = put(root, f"{base}/{domain}/energy_uj", energy_uj)
            counters += [path] if name.startswith("package") else []
    put(root, f"{base}/intel-rapl:{packages}/name", "psys")
    put(root, f"{base}/intel-rapl:{packages}/max_energy_range_uj", range_uj)
    put(root, f"{base}/intel-rapl:{packages}/energy_uj", energy_uj * 9)
    return counters
