"""A serial port with deadlines, on pyserial. Nothing here touches DTR or CTS, which a pseudo terminal does not have."""

from __future__ import annotations

import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hardware.errors import MeterError

_MOST_BUFFERED = 1 << 20


class Port:
    """An open port.

    Args:
        path: Device file.
        baud: Symbols a second; a USB CDC device ignores it.

    Raises:
        MeterError: If it cannot be opened, is used by someone else, or pyserial is not installed.
    """

    def __init__(self, path: str, baud: int = 115200) -> None:
        self.path = path
        try:
            import serial  # noqa: PLC0415 (an optional dependency that only meters need)
        except ImportError as error:
            raise MeterError(path, "serial meters need pyserial: pip install 'coda-edge[edge]'") from error
        try:
            self._serial: Any = serial.Serial(path, baud, timeout=0, write_timeout=1, exclusive=True)
        except (OSError, ValueError, termios.error) as error:
            raise MeterError(path, f"cannot be opened: {error}") from error

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            MeterError: If the port is gone or takes nothing.
        """
        try:
            self._serial.write(data)
        except OSError as error:
            raise MeterError(self.path, f"cannot be written: {error}") from error

    def read(self, timeout_s: float, most: int = 1 << 16) -> bytes:
        """Whatever has arrived, waiting for the first byte; empty after ``timeout_s``.

        Raises:
            MeterError: If the port is gone.
        """
        try:
            self._serial.timeout = timeout_s
            data: bytes = self._serial.read(1)
            if data:
                data += self._serial.read(min(self._serial.in_waiting, most - 1))
        except (OSError, TypeError) as error:  # pyserial raises TypeError when another thread closed the port
            raise MeterError(self.path, f"cannot be read: {error}") from error
        return data

    def read_until(self, done: Callable[[bytes], bool], timeout_s: float, what: str) -> bytes:
        """Collect bytes until ``done`` says that they are enough.

        Raises:
            MeterError: If they are not within ``timeout_s``, or are without end.
        """
        deadline_s = time.monotonic() + timeout_s
        data = b""
        while not done(data):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise MeterError(self.path, f"{what}: {len(data)} bytes and no more within {timeout_s:g} s")
            data += self.read(left_s)
            if len(data) > _MOST_BUFFERED:
                raise MeterError(self.path, f"{what}: {len(data)} bytes without an end")
        return data

    def discard(self) -> None:
        """Forget what has arrived and was not read."""
        try:
            self._serial.reset_input_buffer()
        except (OSError, termios.error) as error:
            raise MeterError(self.path, f"cannot be read: {error}") from error

    def close(self) -> None:
        """Give the port back."""
        self._serial.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
