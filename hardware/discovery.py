"""Looks for everything on this machine that can tell energy, and says why the rest cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware import battery, hwmon, ina3221, modelled, pmic, rapl
from hardware.board import identify
from hardware.calibration import Calibration, unit_of
from hardware.correction import CorrectedPower
from hardware.errors import SensorError
from hardware.sensor import PowerSensor, Sensor, preference

_ANY = frozenset({"raspberry-pi", "jetson", "generic"})
# How each is found, and on which families of board it makes sense to look at all.
_FINDERS: tuple[tuple[str, Callable[[Path], Sensor | list[Sensor] | str], frozenset[str]], ...] = (
    (pmic.NAME, pmic.find_pmic, frozenset({"raspberry-pi"})),
    (ina3221.NAME, ina3221.find_ina3221, frozenset({"jetson"})),
    (rapl.NAME, rapl.find_rapl, frozenset({"generic"})),
    (battery.NAME, battery.find_battery, _ANY),
    (hwmon.NAME, hwmon.find_hwmon, _ANY),
    (modelled.NAME, modelled.find_model, _ANY),
)


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        sensors: Usable sensors: measured before modelled, then the widest scope first.
        reasons: Why a sensor that a board of this family may have is absent, by its name.
    """

    sensors: tuple[Sensor, ...]
    reasons: Mapping[str, str]

    @property
    def why_none(self) -> str:
        """One line for a record that has no energy."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())


def find_sensors(root: Path = Path("/"), calibrations: Sequence[Calibration] = ()) -> Found:
    """Look for sensors under ``root``. Never raises: what cannot be used is in ``reasons``.

    Args:
        root: Where the system's files hang.
        calibrations: Those that were made on this very unit replace published corrections and models.
    """
    unit = unit_of(root)
    own = {calibration.source: calibration for calibration in calibrations if calibration.unit == unit}
    sensors: list[Sensor] = []
    reasons: dict[str, str] = {}
    family = identify(root).family
    for name, find, families in _FINDERS:
        if family not in families:
            continue
        found = _fitted_model(root, own) if name == modelled.NAME and name in own else find(root)
        if isinstance(found, str):
            reasons[name] = found
        else:
            sensors += [_calibrated(sensor, own) for sensor in (found if isinstance(found, list) else [found])]
    return Found(tuple(sorted(sensors, key=preference)), reasons)


def _fitted_model(root: Path, calibrations: Mapping[str, Calibration]) -> Sensor | str:
    try:
        return modelled.ModelledEnergy(calibrations[modelled.NAME].model(), root)
    except SensorError as error:
        return error.detail


def _calibrated(sensor: Sensor, calibrations: Mapping[str, Calibration]) -> Sensor:
    raw = sensor.inner if isinstance(sensor, CorrectedPower) else sensor
    calibration = calibrations.get(raw.source.name)
    if calibration is None or not isinstance(raw, PowerSensor):
        return sensor
    return CorrectedPower(raw, calibration.correction())
