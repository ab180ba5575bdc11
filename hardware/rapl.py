"""Intel and AMD processors' energy counters (RAPL), through the kernel's powercap files.

Only the package domains are added up: core, uncore and dram lie inside a package or beside it depending on the
processor, and what ``psys`` covers is each vendor's own choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.sensor import EnergySensor, Kind, Scope, Source

NAME = "rapl"
_MOST_W = 2000.0  # no package draws more; a step that would need more is a reset, not a wrap


@dataclass
class _Domain:
    path: Path
    range_uj: int
    last_uj: int
    last_s: float
    counted_uj: int = 0

    def update(self, now_s: float) -> bool:
        """Count on, and say whether what was counted since the last time can be true."""
        now_uj = read_number(self.path / "energy_uj", NAME)
        if not 0 <= now_uj <= self.range_uj:
            raise SensorError(NAME, f"{self.path}: {now_uj} uJ lies outside 0..{self.range_uj}")
        step_uj = now_uj - self.last_uj
        most_uj = _MOST_W * 1e6 * (now_s - self.last_s) + 1e6
        # One wrap is corrected. A second one cannot be seen, nor can a reset be told from a wrap except by its size.
        step_uj += self.range_uj if step_uj < 0 else 0
        self.last_uj, self.last_s = now_uj, now_s
        if step_uj > most_uj:
            return False
        self.counted_uj += step_uj
        return True


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
    still_s = 1.0
    step_mj = 0.061

    def __init__(self, packages: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        now_s = clock()
        self._domains = [
            _Domain(path, read_number(path / "max_energy_range_uj", NAME), read_number(path / "energy_uj", NAME), now_s)
            for path in packages
        ]

    def energy_mj(self) -> float:
        """Millijoules since this object was made, wraparound corrected.

        Raises:
            SensorError: If a counter vanished, cannot be read, lies outside its own range, or was reset; the last is a
                break, after which it counts on from there.
        """
        now_s = self._clock()
        broken = [domain.path.name for domain in self._domains if not domain.update(now_s)]
        if broken:
            self.breaks += 1
            raise SensorError(NAME, f"{', '.join(broken)}: rose by more than {_MOST_W:g} W can, so it was reset")
        return sum(domain.counted_uj for domain in self._domains) / 1000


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
