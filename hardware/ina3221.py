"""The INA3221 power monitors of Jetson boards, through the files of JetPack 4 (iio) and JetPack 5 and later (hwmon)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.sensor import Kind, PowerSensor, Scope, Source

NAME = "ina3221"
# A board's input rail already holds everything: its sub-rails are never added to it.
_INPUT_RAILS = ("POM_5V_IN", "VDD_IN")
_GAP = "at the module's regulator; a plug showed about 0.4 W more on an Orin Nano"

ReadRail = Callable[[], float]


def _hwmon_rails(root: Path) -> dict[str, ReadRail]:
    rails: dict[str, ReadRail] = {}
    for device in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for channel in (1, 2, 3):  # in7 is a sum of shunt voltages, not a rail
            label = _label(device / f"in{channel}_label")
            if label and label != "NC":
                rails[label] = _product(device / f"in{channel}_input", device / f"curr{channel}_input")
    return rails


def _product(volts_path: Path, amps_path: Path) -> ReadRail:
    # This driver has no powerN_input: the two factors are read one after the other.
    return lambda: read_number(volts_path, NAME) * read_number(amps_path, NAME) / 1000


def _iio_rails(root: Path) -> dict[str, ReadRail]:
    rails: dict[str, ReadRail] = {}
    for device in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for channel in (0, 1, 2):
            label = _label(device / f"rail_name_{channel}")
            if label and label != "NC":
                rails[label] = _single(device / f"in_power{channel}_input")
    return rails


def _single(path: Path) -> ReadRail:
    return lambda: float(read_number(path, NAME))


def _label(path: Path) -> str | None:
    if not path.exists():
        return None
    label = read_text(path)
    if not label:  # without its name, a rail might be the input that holds all others, or be missing in their sum
        raise SensorError(NAME, f"{path}: cannot be read, so it is not known which rail this is")
    return label


def find_rails(root: Path) -> dict[str, ReadRail]:
    """A function that reads the milliwatts of each rail, by its label.

    Raises:
        SensorError: If a rail's label is there and cannot be read.
    """
    return _hwmon_rails(root) or _iio_rails(root)


class Ina3221(PowerSensor):
    """The input rail where the board has one, else the sum of the module's rails."""

    latency_s = 0.01  # conversion and averaging of three channels
    still_s = 5.0

    def __init__(self, root: Path) -> None:
        self._root = root
        self._labels = self._choose(find_rails(root))
        if not self._labels:
            raise SensorError(NAME, "no labelled rail")
        whole = self._labels[0] in _INPUT_RAILS
        note = f"rail {self._labels[0]}, {_GAP}" if whole else f"sum of {', '.join(self._labels)}; no input rail here"
        scope = Scope.BOARD_INPUT if whole else Scope.MODULE
        self.source = Source(NAME, Kind.MEASURED, scope, 0.05, note)
        self._rails = find_rails(root)

    def power_mw(self) -> float:
        """Milliwatts now.

        Raises:
            SensorError: If a rail cannot be read, also after looking for it under a new number, or is negative.
        """
        try:
            return self._sum()
        except SensorError:
            # A driver that was loaded again comes back under another hwmon number.
            self._rails = find_rails(self._root)
            return self._sum()

    def _sum(self) -> float:
        missing = [label for label in self._labels if label not in self._rails]
        if missing:
            raise SensorError(NAME, f"rail {', '.join(missing)} vanished")
        powers_mw = [self._rails[label]() for label in self._labels]
        if min(powers_mw) < 0:
            raise SensorError(NAME, f"a rail reads {min(powers_mw):.0f} mW; power cannot be negative")
        return sum(powers_mw)

    @staticmethod
    def _choose(rails: Mapping[str, ReadRail]) -> list[str]:
        return [label for label in _INPUT_RAILS if label in rails][:1] or sorted(rails)


def find_ina3221(root: Path) -> PowerSensor | str:
    """The board's INA3221, or the reason why there is none."""
    try:
        if not find_rails(root):
            return "no INA3221 under /sys/bus/i2c/drivers (not a Jetson, or not this board)"
        sensor = Ina3221(root)
        sensor.power_mw()
    except SensorError as error:
        return error.detail
    return sensor
