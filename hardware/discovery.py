"""Looks for everything on this machine that can measure energy, and says why the rest cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware.rapl import NAME as RAPL
from hardware.rapl import find_rapl
from hardware.sensor import EnergySensor


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        sensors: Usable sensors, the widest scope first.
        reasons: Why a sensor that was looked for is absent, by its name.
    """

    sensors: tuple[EnergySensor, ...]
    reasons: Mapping[str, str]

    @property
    def why_none(self) -> str:
        """One line for a record that has no energy."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items())


def find_sensors(root: Path = Path("/")) -> Found:
    """Look for sensors under ``root``. Never raises: what cannot be used is in ``reasons``."""
    sensors: list[EnergySensor] = []
    reasons: dict[str, str] = {}
    for name, find in ((RAPL, find_rapl),):
        found = find(root)
        if isinstance(found, str):
            reasons[name] = found
        else:
            sensors.append(found)
    return Found(tuple(sensors), reasons)
