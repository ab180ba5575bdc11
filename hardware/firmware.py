"""Asking a Raspberry Pi's firmware: through its device file where there is one, else through the ``vcgencmd`` program.

The device file costs no process. Its protocol is a mailbox property: one buffer of 32-bit words that the kernel hands
to the firmware and back.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from hardware.errors import SensorError

NAME = "firmware"
_TEXT_BYTES = 4096
_TAG = 0x00030080  # "gencmd": run a textual command
_WORDS = 6  # size, status, tag, length of the value buffer, length of the request, return code
_BUFFER_BYTES = 4 * _WORDS + _TEXT_BYTES + 4
# _IOWR(100, 0, char *): the size of a pointer is part of the number.
_REQUEST = 0xC0086400 if struct.calcsize("P") == 8 else 0xC0046400
_TIMEOUT_S = 2.0

Ioctl = Callable[[int, int, bytearray, bool], int]


class Firmware(ABC):
    """Answers textual commands such as ``get_throttled``."""

    how: str

    @abstractmethod
    def ask(self, command: str) -> str:
        """The firmware's answer.

        Raises:
            SensorError: If it cannot be asked, or refuses.
        """


class DeviceFirmware(Firmware):
    """Through ``/dev/vcio_gencmd`` or ``/dev/vcio``."""

    def __init__(self, device: Path, ioctl: Ioctl = fcntl.ioctl) -> None:
        self.how = f"ioctl on {device}"
        self._device = device
        self._ioctl = ioctl

    def ask(self, command: str) -> str:
        """The firmware's answer; see `Firmware.ask`."""
        text = command.encode("ascii")
        if len(text) >= _TEXT_BYTES:
            raise SensorError(NAME, f"command of {len(text)} bytes; at most {_TEXT_BYTES - 1} fit")
        head = struct.pack(f"={_WORDS}I", _BUFFER_BYTES, 0, _TAG, _TEXT_BYTES, 0, 0)
        buffer = bytearray(head + text.ljust(_TEXT_BYTES, b"\0") + bytes(4))
        try:
            descriptor = os.open(self._device, os.O_RDONLY)
            try:
                self._ioctl(descriptor, _REQUEST, buffer, True)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SensorError(NAME, f"{self._device}: {error.strerror}") from error
        code = struct.unpack_from("=I", buffer, 4 * (_WORDS - 1))[0]
        if code:
            raise SensorError(NAME, f"{command}: the firmware answered with code {code}")
        answer = bytes(buffer[4 * _WORDS : 4 * _WORDS + _TEXT_BYTES])
        return answer.split(b"\0", 1)[0].decode("ascii", "replace")


class ProgramFirmware(Firmware):
    """Through ``vcgencmd``, at the price of a process for every question."""

    def __init__(self, program: Path) -> None:
        self.how = f"{program}, one process a reading"
        self._program = program

    def ask(self, command: str) -> str:
        """The firmware's answer; see `Firmware.ask`."""
        try:
            done = subprocess.run(
                [str(self._program), *command.split()], capture_output=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise SensorError(NAME, f"{self._program} {command}: no answer within {_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise SensorError(NAME, f"{self._program}: {error.strerror}") from error
        answer = done.stdout[:_TEXT_BYTES].decode("ascii", "replace")
        if done.returncode or answer.startswith("error="):
            raise SensorError(NAME, f"{self._program} {command}: exit {done.returncode}, {answer.strip()[:80]!r}")
        return answer


def find_firmware(root: Path = Path("/"), ioctl: Ioctl = fcntl.ioctl) -> Firmware | str:
    """The first way to ask that answers, or the reason why none does."""
    devices = [root / "dev/vcio_gencmd", root / "dev/vcio"]
    programs = [root / "usr/bin/vcgencmd", root / "opt/vc/bin/vcgencmd"]
    candidates: list[Firmware] = [DeviceFirmware(path, ioctl) for path in devices if path.exists()]
    candidates += [ProgramFirmware(path) for path in programs if path.exists()]
    reasons = []
    for firmware in candidates:
        try:
            firmware.ask("version")
        except SensorError as error:
            reasons.append(error.detail)
        else:
            return firmware
    return "; ".join(reasons) or "no /dev/vcio_gencmd, /dev/vcio or vcgencmd (not a Raspberry Pi)"
