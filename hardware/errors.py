"""What can go wrong with the machine, drawn as a tree.

HardwareError
└── SensorError          a sensor that was found cannot be read, or reads nonsense

Every message says what failed, where, and what the kernel or the device said.
"""

from __future__ import annotations


class HardwareError(Exception):
    """Root of every error that hardware/ raises."""


class SensorError(HardwareError):
    """A sensor cannot be read, or what it says is not a number of its kind. Nothing is guessed in its place.

    Attributes:
        sensor: Its name.
        detail: What happened, and where.
    """

    def __init__(self, sensor: str, detail: str) -> None:
        super().__init__(f"{sensor}: {detail}")
        self.sensor = sensor
        self.detail = detail
