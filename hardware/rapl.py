"""Intel and AMD processors' energy counters (RAPL), through the kernel's powercap files.

Only the package domains are added up: core, uncore and dram lie inside a package or beside it depending on the
processor, and what ``psys`` covers is each vendor's own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.sensor import EnergySensor, Kind, Scope, Source

NAME = "rapl"


@dataclass
class _Domain:
    path: Path
    range_uj: int
    last_uj: int
    counted_uj: int = 0

    def update(self) -> int:
        now_uj = read_number(self.path / "energy_uj", NAME)
        if not 0 <= now_uj <= self.range_uj:
            raise SensorError(NAME, f"{self.path}: {now_uj} uJ lies outside 0..{self.range_uj}")
        step_uj = now_uj - self.last_uj
        # One wrap is corrected; a second within the same interval cannot be seen. At 250 W a 262 kJ counter
        # wraps after 17 minutes, so read it at least that often.
        self.counted_uj += step_uj if step_uj >= 0 else step_uj + self.range_uj
        self.last_uj = now_uj
        return self.counted_uj


class Rapl(EnergySensor):
    """Sum of all processor packages."""

    source = Source(
        NAME,
        Kind.MEASURED,
        Scope.CPU_PACKAGE,
        0.05,
        "processor packages only: no memory, disk, network or supply losses",
    )

    latency_s = 0.001  # the counters are brought up to date about once a millisecond
    step_mj = 0.061

    def __init__(self, packages: Sequence[Path]) -> None:
        self._domains = [
            _Domain(path, read_number(path / "max_energy_range_uj", NAME), read_number(path / "energy_uj", NAME))
            for path in packages
        ]

    def energy_mj(self) -> float:
        """Millijoules since this object was made, wraparound corrected.

        Raises:
            SensorError: If a counter vanished, cannot be read, or lies outside its own range.
        """
        return sum(domain.update() for domain in self._domains) / 1000


def find_rapl(root: Path) -> Rapl | str:
    """The machine's RAPL counter, or the reason why there is none."""
    base = root / "sys/class/powercap"
    packages = [
        path for path in sorted(base.glob("intel-rapl:*")) if (read_text(path / "name") or "").startswith("package")
    ]
    if not packages:
        return "no RAPL package domain in /sys/class/powercap (not an x86 host, or a virtual machine)"
    try:
        return Rapl(packages)
    except SensorError as error:
        return f"{error.detail}; since Linux 5.10 only root may read energy_uj"
