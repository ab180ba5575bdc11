"""What can go wrong with the machine, drawn as a tree.

::

    HardwareError
    ├── SensorError          a sensor that was found cannot be read, or reads nonsense
    │   └── MeterError       a meter on a serial port is silent, gone, or talks nonsense
    ├── BundleError          what a board installs cannot be put together
    ├── CalibrationError     the steps do not determine a correction, or a stored one is malformed
    └── FlashError           a medium was not written, or not wholly: it does not boot then
        ├── TargetError      the target is not one to write to; nothing was written
        ├── ImageError       the image is another, damaged, or not one that can be seeded; nothing was written
        ├── SeedError        what is to go onto the image is malformed or does not fit; nothing was written
        └── WriteError       writing failed, or what was read back differs

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


class BundleError(HardwareError):
    """A board or system is none we build for, a wheel is missing or not the locked one, or a lock is out of date."""


class FlashError(HardwareError):
    """Root of what stops `hardware.flash`. Whatever it is, a medium that was not wholly written does not boot."""


class TargetError(FlashError):
    """The target is a disk that must not be overwritten, or none at all."""


class ImageError(FlashError):
    """The image is not the expected one, is cut short, or holds no boot partition that can be seeded."""


class SeedError(FlashError):
    """A name, a key or a setting is malformed, the files do not fit, or the tool that places them is missing."""


class WriteError(FlashError):
    """The medium refused a write, or holds something else than was written."""
