"""The Raspberry Pi 5's power chip: volts and amperes of twelve rails, through the firmware.

It has no energy counter, sees neither USB nor HAT loads on the 5 V line, and reads the DDR rails as exact zero at idle.
"""

from __future__ import annotations

import re
from pathlib import Path

from hardware.board import identify
from hardware.correction import CorrectedPower, Correction
from hardware.errors import SensorError
from hardware.firmware import Firmware, find_firmware
from hardware.sensor import Kind, PowerSensor, Scope, Source

NAME = "pi5-pmic"
RAILS = (
    "3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS",
    "0V8_SW", "VDD_CORE", "3V3_DAC", "3V3_ADC", "0V8_AON", "HDMI",
)  # fmt: skip
COMMUNITY_CORRECTION = Correction(
    name="community",
    scale=1.1451,
    offset_mw=587.9,
    scope=Scope.BOARD_INPUT,
    relative_u95=0.10,
    note="P = 1.1451 x rails + 0.5879 W, passed on among users, origin unknown; calibrate against a meter instead",
)
_LINE = re.compile(r"^\s*(\w+)_([AV]) (current|volt|voltage)\(\d+\)=(\d+(?:\.\d+)?)([AV])\s*$")


def parse_rails(answer: str) -> dict[str, float]:
    """Watts of each rail from the answer to ``pmic_read_adc``.

    Raises:
        SensorError: If a rail's volts or amperes are missing or garbled: a partial sum would be a wrong number.
    """
    values: dict[tuple[str, str], float] = {}
    for line in answer.splitlines():
        found = _LINE.match(line)
        if found and found[2] == found[5]:
            values[found[1], found[2]] = float(found[4])
    missing = [rail for rail in RAILS if (rail, "A") not in values or (rail, "V") not in values]
    if missing:
        raise SensorError(NAME, f"pmic_read_adc: {len(missing)} of {len(RAILS)} rails missing: {', '.join(missing)}")
    return {rail: values[rail, "A"] * values[rail, "V"] for rail in RAILS}


class Pi5Pmic(PowerSensor):
    """Sum of the twelve rails."""

    source = Source(NAME, Kind.MEASURED, Scope.PMIC_RAILS, None, "twelve rails; USB and HAT loads on 5 V are not seen")
    latency_s = 1 / 21
    still_s = 2.0  # two dozen converters, each with its noise
    most_hz = 21.0

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware

    def power_mw(self) -> float:
        """Milliwatts of all rails.

        Raises:
            SensorError: If the firmware does not answer, or an answer lacks a rail or has no power at all.
        """
        power_mw = 1000 * sum(parse_rails(self._firmware.ask("pmic_read_adc")).values())
        if power_mw <= 0:
            raise SensorError(NAME, "every rail reads zero, which no running board can")
        return power_mw


def find_pmic(root: Path) -> PowerSensor | str:
    """The Pi 5's rails seen through the community's correction, or the reason why there are none."""
    if identify(root).kind not in ("pi-5", "pi-cm5", "pi-500"):
        return "only the Raspberry Pi 5 and its kin have a power chip that measures"
    firmware = find_firmware(root)
    if isinstance(firmware, str):
        return firmware
    sensor = Pi5Pmic(firmware)
    try:
        sensor.power_mw()
    except SensorError as error:
        return f"{firmware.how}: {error.detail}"
    return CorrectedPower(sensor, COMMUNITY_CORRECTION)
