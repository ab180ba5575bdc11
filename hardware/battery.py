"""A battery as the kernel's power_supply class shows it. It tells what the machine draws only while it discharges."""

from __future__ import annotations

from pathlib import Path

from hardware.errors import SensorError
from hardware.files import read_number, read_text
from hardware.sensor import Kind, PowerSensor, Scope, Source

NAME = "battery"


class Battery(PowerSensor):
    """Power that leaves the battery."""

    source = Source(
        NAME,
        Kind.MEASURED,
        Scope.BATTERY,
        None,
        "the gauge's accuracy is not stated; many refresh only every few seconds",
    )
    latency_s = 5.0
    still_s = 60.0
    most_hz = 1.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def power_mw(self) -> float:
        """Milliwatts that the machine draws from the battery.

        Raises:
            SensorError: If the battery does not discharge (what flows is then not what the machine draws), or if its
                files cannot be read or say that nothing is drawn.
        """
        status = read_text(self._folder / "status")
        if status != "Discharging":
            raise SensorError(NAME, f"{self._folder.name} is {status or 'gone'}, so it does not show what is drawn")
        power_mw = self._read_mw()
        if power_mw <= 0:
            raise SensorError(NAME, f"{self._folder.name} discharges with no power, which no running machine can")
        return power_mw

    def _read_mw(self) -> float:
        # Some gauges give a sign for the direction, which the status has already told.
        if (self._folder / "power_now").exists():
            return abs(read_number(self._folder / "power_now", NAME)) / 1000
        volts_uv = read_number(self._folder / "voltage_now", NAME)
        amps_ua = read_number(self._folder / "current_now", NAME)
        return abs(volts_uv * amps_ua) / 1e9


def find_battery(root: Path) -> PowerSensor | str:
    """The first battery that discharges, or the reason why none does."""
    folders = [
        path
        for path in sorted((root / "sys/class/power_supply").glob("*"))
        if read_text(path / "type") == "Battery" and read_text(path / "scope") != "Device"
    ]
    reasons = []
    for folder in folders:
        sensor = Battery(folder)
        try:
            sensor.power_mw()
        except SensorError as error:
            reasons.append(error.detail)
        else:
            return sensor
    return "; ".join(reasons) or "no battery in /sys/class/power_supply"
