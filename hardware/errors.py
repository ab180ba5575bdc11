"""What can go wrong with the machine, drawn as a tree.

::

    HardwareError
    ├── SensorError          a sensor that was found cannot be read, or reads nonsense
    │   └── MeterError       a meter on a serial port is silent, gone, or talks nonsense
    └── CalibrationError     the steps do not determine a correction, or a stored one is malformed

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


class MeterError(SensorError):
    """A serial meter cannot be opened, does not answer, or what it says fails its checks."""


class CalibrationError(HardwareError):
    """Too few steps, steps too much alike, a fit that fails its own check, or a file that is no calibration."""
