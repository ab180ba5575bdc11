"""Counters of this process, its control group and the machine, read at the edges of a phase.

Reading them all takes a few tenths of a millisecond. Every name carries its unit; a counter that this machine does not
keep is absent, and `Counters.reasons` says why.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from hardware.files import read_text

Values = Mapping[str, float]
_INTERFACE = re.compile(r"^\s*(\S+):\s*(\d+)" + r"\s+\d+" * 7 + r"\s+(\d+)", re.M)  # name, bytes in, bytes out

MEANINGS: Mapping[str, str] = {
    "context_switches_voluntary": "times the process gave up the processor",
    "context_switches_involuntary": "times the processor was taken from it",
    "page_faults_major": "pages that had to be read from disk",
    "io_read_bytes": "bytes that storage delivered to the process",
    "io_write_bytes": "bytes that the process sent to storage",
    "cgroup_cpu_user_s": "processor seconds of the process's control group in user mode",
    "cgroup_cpu_system_s": "the same in the kernel",
    "stall_cpu_s": "seconds in which some task of the machine waited for a processor (PSI)",
    "stall_memory_s": "the same for memory",
    "stall_io_s": "the same for storage",
    "interface_up_bytes": "bytes that all network interfaces but loopback sent, whoever sent them",
    "interface_down_bytes": "the same, received",
    "loopback_bytes": "bytes that the loopback interface carried, whoever sent them",
}
"""Every counter that a phase may have, and what it counts."""


class Counters:
    """Reads every counter there is.

    Attributes:
        reasons: Why a group of counters is absent, by the group's name.
    """

    def __init__(self, root: Path = Path("/"), process: str = "self") -> None:
        self.reasons: dict[str, str] = {}
        self._root = root
        self._io = root / "proc" / process / "io"
        self._cgroup = cgroup_folder(root, process)
        self._readers: dict[str, Callable[[], Values | None]] = {
            "context_switches": _switches,
            "io": self._read_io,
            "cgroup": self._read_cgroup,
            "stall": self._read_stall,
            "interface": self._read_interfaces,
        }
        for name, why in (
            ("io", f"{self._io} cannot be read"),
            ("cgroup", "the process is in no control group of version 2 of its own that has cpu.stat"),
            ("stall", "the kernel keeps no pressure stall information in /proc/pressure"),
            ("interface", "/proc/net/dev cannot be read"),
        ):
            if self._readers[name]() is None:
                self.reasons[name] = why
                del self._readers[name]

    def read(self) -> dict[str, float]:
        """All counters now, by name."""
        values: dict[str, float] = {}
        for read in self._readers.values():
            values.update(read() or {})
        return values

    def _read_io(self) -> Values | None:
        return _pick(read_text(self._io), r"^(read|write)_bytes: (\d+)$", lambda name: f"io_{name}_bytes", 1)

    def _read_cgroup(self) -> Values | None:
        text = read_text(self._cgroup / "cpu.stat") if self._cgroup else None
        return _pick(text, r"^(user|system)_usec (\d+)$", lambda name: f"cgroup_cpu_{name}_s", 1e-6)

    def _read_stall(self) -> Values | None:
        found: dict[str, float] = {}
        for name in ("cpu", "memory", "io"):
            text = read_text(self._root / "proc/pressure" / name)
            for value in (_pick(text, r"^(some) .*total=(\d+)$", str, 1e-6) or {}).values():
                found[f"stall_{name}_s"] = value
        return found or None

    def _read_interfaces(self) -> Values | None:
        rows = _INTERFACE.findall(read_text(self._root / "proc/net/dev") or "")
        if not rows:
            return None
        outside = [(int(down), int(up)) for name, down, up in rows if name != "lo"]
        return {
            "interface_up_bytes": sum(up for _, up in outside),
            "interface_down_bytes": sum(down for down, _ in outside),
            "loopback_bytes": sum(int(up) for name, _, up in rows if name == "lo"),
        }


def difference(begin: Values, end: Values) -> dict[str, float]:
    """What was counted between two readings; a counter that fell or is missing at an edge is left out."""
    steps = {name: end[name] - value for name, value in begin.items() if name in end}
    return {name: step for name, step in steps.items() if step >= 0}


def smaps(root: Path = Path("/"), process: str = "self") -> dict[str, float]:
    """Proportional and private resident memory in bytes. The kernel walks every page: for a round's edges only."""
    text = read_text(root / "proc" / process / "smaps_rollup")
    found = _pick(text, r"^(Pss|Private_Clean|Private_Dirty|Swap):\s+(\d+) kB$", str, 1024) or {}
    if "Pss" not in found:
        return {}
    return {
        "pss_bytes": found["Pss"],
        "private_bytes": found.get("Private_Clean", 0) + found.get("Private_Dirty", 0),
        "swap_bytes": found.get("Swap", 0),
    }


def _switches() -> Values:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "context_switches_voluntary": usage.ru_nvcsw,
        "context_switches_involuntary": usage.ru_nivcsw,
        "page_faults_major": usage.ru_majflt,
    }


def cgroup_folder(root: Path = Path("/"), process: str = "self") -> Path | None:
    """Folder of the process's control group of version 2, or None where it is in none that keeps ``cpu.stat``.

    Where version 1 is mounted too (as Ubuntu 20.04 and so JetPack 5 do), version 2 hangs under ``unified``. The root of
    all groups is the whole machine and no group of the process; unlike a container's root it has no ``cgroup.events``.
    """
    found = re.search(r"^0::(/.*)$", read_text(root / "proc" / process / "cgroup") or "", re.M)
    if found is None:
        return None
    for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
        folder = root / mount / found[1].strip("/")
        is_a_group = found[1] != "/" or (folder / "cgroup.events").exists()
        if is_a_group and (folder / "cpu.stat").exists():
            return folder
    return None


def _pick(text: str | None, pattern: str, name: Callable[[str], str], scale: float) -> dict[str, float] | None:
    rows = re.findall(pattern, text or "", re.M)
    return {name(key): int(value) * scale for key, value in rows} or None
