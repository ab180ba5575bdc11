"""The sensors of the fault matrix: file trees under a known power, and what each fault does to their files."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hardware.battery import find_battery
from hardware.firmware import DeviceFirmware, ProgramFirmware
from hardware.hwmon import find_hwmon
from hardware.ina3221 import find_ina3221
from hardware.modelled import LinearModel, ModelledEnergy
from hardware.pmic import Pi5Pmic
from hardware.rapl import Rapl
from hardware.sensor import Sensor
from tests.hardware.test_pmic import Mailbox
from tests.hardware.trees import PMIC_ANSWER, PMIC_W, ina_hwmon, ina_iio, program, put, rapl

STEP_S = 0.1
_RANGE_UJ = 65_532_610_987
_EIO = Path("/proc/self/mem")  # nothing is mapped at its beginning, so that a read there is an input/output error
_MODEL = LinearModel("the tested board", 2000, 4000, 0.02)  # as well as one fitted on the unit can be
_BATTERY, _HWMON = "sys/class/power_supply/BAT0", "sys/class/hwmon/hwmon2"


def power_mw(at_s: float) -> float:
    """The power that is drawn: slow and fast waves, and a step."""
    step = 900 if at_s % 9 > 4 else 0
    return 3500 + step + 600 * math.sin(2 * math.pi * at_s / 7.3) + 200 * math.sin(2 * math.pi * at_s / 1.37)


@dataclass
class Tree:
    """A board's files, which follow the power, and their fault.

    Attributes:
        source: Its row of the matrix.
        fault: Its column; empty for none.
        root: Where the files hang.
        now_s: The time.
        truth_mj: What has been drawn since the beginning.
        is_faulty: Whether the fault is there.
    """

    source: str
    fault: str
    root: Path
    now_s: float = 50.0
    truth_mj: float = 0.0
    is_faulty: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(6))
    _ticks: list[float] = field(default_factory=lambda: [1000.0, 9000.0])
    _lost_mj: float = 0.0
    _moved: Path | None = None

    def open(self) -> Sensor:
        """The sensor, over a tree in order."""
        self.show()
        return _OPENERS[self.source](self)

    def step(self) -> None:
        """Let a tenth of a second pass."""
        step_s = STEP_S * self.rng.uniform(0.75, 1.25)
        drawn_mj = (power_mw(self.now_s) + power_mw(self.now_s + step_s)) / 2 * step_s
        self.now_s += step_s
        self.truth_mj += drawn_mj
        share = (drawn_mj / step_s - _MODEL.idle_mw) / _MODEL.slope_mw
        self._ticks[0] += 4e5 * step_s * share  # the kernel's ticks are coarser; that is no fault
        self._ticks[1] += 4e5 * step_s * (1 - share)
        self.show()

    def show(self) -> None:
        """Write the files as they are now, spoilt while the fault is there."""
        if self.is_faulty and self.fault == "stale frame":
            return
        for path, text in self._texts().items():
            if path.is_symlink():
                path.unlink()
            put(self.root, str(path.relative_to(self.root)), text)
        if self.is_faulty:
            self._spoil()

    def _spoil(self) -> None:
        for path in self._texts():
            if self.fault == "EIO" and self.rng.random() < 0.7:
                path.unlink()
                path.symlink_to(_EIO)
            elif self.fault == "vanished":
                path.unlink()
            elif self.fault in ("truncation", "stray bytes") and self.rng.random() < 0.7:
                path.write_bytes(self._spoilt(path.read_bytes()))

    def _spoilt(self, data: bytes) -> bytes:
        place = self.rng.randrange(len(data))
        if self.fault == "truncation":
            return data[:place]
        return data[:place] + self.rng.choice([b"\xff\x00", b"\x1b[", b"?"]) + data[place:]

    def begin_fault(self) -> None:
        """From now on."""
        self.is_faulty = True
        if self.fault == "renumbered":
            self._renumber()
        if self.fault == "wraparound" and self.source == "hwmon, energy":
            self._lost_mj = self.truth_mj  # its driver was loaded again and counts from zero
        if self.fault == "wraparound" and self.source == "modelled":
            self._ticks[1] -= 4e5 * 0.5  # the kernel's idle time is known to fall

    def _renumber(self) -> None:
        folder = next(iter(self._texts())).parent
        self._moved = folder.with_name("hwmon7")
        folder.rename(self._moved)

    def _texts(self) -> dict[Path, str | int]:
        """What each file that moves holds."""
        now_mw = power_mw(self.now_s)
        if self.source.startswith("pi5-pmic"):
            return {self.root / "answer": _pmic_answer(now_mw)}
        if self.source.startswith("ina3221"):
            place = self._place(_INA4 if self.source.endswith("4") else _INA5)
            name = "in_power0_input" if self.source.endswith("4") else "curr1_input"
            return {place / name: round(now_mw if self.source.endswith("4") else now_mw / 5)}
        if self.source == "battery":
            return {self.root / _BATTERY / "power_now": round(now_mw * 1000)}
        if self.source == "rapl":
            begin_uj = _RANGE_UJ - 20_000_000 if self.fault == "wraparound" else 0
            counted_uj = (begin_uj + self.truth_mj * 1000) % _RANGE_UJ
            return {self.root / "sys/class/powercap/intel-rapl:0/energy_uj": round(counted_uj)}
        if self.source == "modelled":
            busy, idle = self._ticks
            return {self.root / "proc/stat": f"cpu  {busy:.0f} 0 0 {idle:.0f} 0 0 0 0 0 0"}
        name, value = ("power1_input", now_mw * 1000) if self.source == "hwmon, power" else ("energy1_input", 0.0)
        return {self._place(_HWMON) / name: round(value or (self.truth_mj - self._lost_mj) * 1000)}

    def _place(self, folder: str) -> Path:
        return self._moved or self.root / folder


def _pmic_answer(drawn_mw: float) -> str:
    share = drawn_mw / (1000 * PMIC_W)
    current = re.compile(r"(A current\(\d+\)=)([\d.]+)")
    return current.sub(lambda found: f"{found[1]}{float(found[2]) * share:.8f}", PMIC_ANSWER)


_INA4 = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
_INA5 = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def _pmic_ioctl(tree: Tree) -> Sensor:
    def ask(descriptor: int, request: int, buffer: bytearray, mutate: bool) -> int:
        text = (tree.root / "answer").read_bytes().decode("latin-1")
        return Mailbox({"pmic_read_adc": text})(descriptor, request, buffer, mutate)

    return Pi5Pmic(DeviceFirmware(put(tree.root, "dev/vcio_gencmd", ""), ask))


def _pmic_program(tree: Tree) -> Sensor:
    return Pi5Pmic(ProgramFirmware(program(tree.root, "usr/bin/vcgencmd", f"exec cat {tree.root}/answer")))


def _ina(tree: Tree) -> Sensor:
    if tree.source.endswith("4"):
        ina_iio(tree.root, {"POM_5V_IN": 3000, "POM_5V_CPU": 84})
    else:
        ina_hwmon(tree.root, "1-0040", 3, {"VDD_IN": (5000, 600), "VDD_CPU_GPU_CV": (4900, 120)})
    tree.show()
    return _one(find_ina3221(tree.root))


def _rapl(tree: Tree) -> Sensor:
    (counter,) = rapl(tree.root, range_uj=_RANGE_UJ)
    tree.show()
    return Rapl([counter.parent], lambda: tree.now_s)


def _battery(tree: Tree) -> Sensor:
    put(tree.root, f"{_BATTERY}/type", "Battery")
    put(tree.root, f"{_BATTERY}/status", "Discharging")
    return _one(find_battery(tree.root))


def _hwmon(tree: Tree) -> Sensor:
    put(tree.root, f"{_HWMON}/name", "ina226")
    found = find_hwmon(tree.root)
    assert isinstance(found, list)
    return found[0]


def _one(found: Sensor | str) -> Sensor:
    assert isinstance(found, Sensor), found
    return found


_OPENERS: dict[str, Callable[[Tree], Sensor]] = {
    "pi5-pmic, ioctl": _pmic_ioctl,
    "pi5-pmic, vcgencmd": _pmic_program,
    "ina3221, JetPack 4": _ina,
    "ina3221, JetPack 5": _ina,
    "rapl": _rapl,
    "battery": _battery,
    "hwmon, power": _hwmon,
    "hwmon, energy": _hwmon,
    "modelled": lambda tree: ModelledEnergy(_MODEL, tree.root, lambda: tree.now_s),
}
