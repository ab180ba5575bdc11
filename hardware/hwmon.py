"""Whatever else the kernel's hwmon class measures: power inputs in microwatts and energy inputs in microjoules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.sensor import EnergySensor, Kind, PowerSensor, Scope, Sensor, Source

NAME = "hwmon"
MOST_SENSORS = 8


class _Channel:
    """One input, found again by its chip and label when hwmon numbers change."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        self._path = path
        self._key = _key(path)
        chip, label = self._key
        self.name = f"{NAME}-{chip}-{label}"
        self.source = Source(self.name, Kind.MEASURED, Scope.COMPONENT, None, f"input {label} of chip {chip}")

    def read(self) -> int:
        if _key(self._path) != self._key:
            self._path = next((path for path in _inputs(self._root) if _key(path) == self._key), self._path)
        value = read_number(self._path, self.name)
        if value < 0:
            raise SensorError(self.name, f"{self._path}: {value} is negative")
        return value


class HwmonPower(PowerSensor):
    """One ``powerN_input`` or ``powerN_average``."""

    latency_s = 0.1
    still_s = 5.0

    def __init__(self, root: Path, path: Path) -> None:
        self._channel = _Channel(root, path)
        self.source = self._channel.source

    def power_mw(self) -> float:
        """Milliwatts now.

        Raises:
            SensorError: If the input vanished, cannot be read, or is negative.
        """
        return self._channel.read() / 1000


class HwmonEnergy(EnergySensor):
    """One ``energyN_input``."""

    latency_s = 0.1
    still_s = 5.0

    def __init__(self, root: Path, path: Path) -> None:
        self._channel = _Channel(root, path)
        self.source = self._channel.source
        self._last_uj = self._channel.read()
        self._counted_uj = 0

    def energy_mj(self) -> float:
        """Millijoules since this object was made.

        Raises:
            SensorError: If the counter vanished, cannot be read, or fell: how far it counts is not known, so a fall is
                a break, after which it counts on from there.
        """
        now_uj, last_uj = self._channel.read(), self._last_uj
        self._last_uj = now_uj
        if now_uj < last_uj:
            self.breaks += 1
            raise SensorError(self.source.name, f"the counter fell from {last_uj} to {now_uj} uJ")
        self._counted_uj += now_uj - last_uj
        return self._counted_uj / 1000


def find_hwmon(root: Path) -> list[Sensor] | str:
    """At most `MOST_SENSORS` inputs that answer, or the reason why there are none."""
    sensors: list[Sensor] = []
    reasons = []
    for path in _inputs(root):
        try:
            sensors.append(_sensor(root, path))
        except SensorError as error:
            reasons.append(error.detail)
    return sensors[:MOST_SENSORS] or "; ".join(reasons[:3]) or "no power or energy input in /sys/class/hwmon"


def _sensor(root: Path, path: Path) -> Sensor:
    if path.name.startswith("energy"):
        return HwmonEnergy(root, path)
    sensor = HwmonPower(root, path)
    sensor.power_mw()
    return sensor


def _inputs(root: Path) -> Iterator[Path]:
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for pattern in ("power[0-9]*_input", "power[0-9]*_average", "energy[0-9]*_input"):
            yield from sorted(path for path in chip.glob(pattern) if "_interval" not in path.name)


def _key(path: Path) -> tuple[str, str]:
    channel = path.name.rsplit("_", 1)[0]
    return read_text(path.parent / "name") or "unnamed", read_text(path.parent / f"{channel}_label") or channel
