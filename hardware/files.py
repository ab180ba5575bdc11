"""Reading the kernel's small text files, which vanish, refuse and answer nonsense more often than others."""

from __future__ import annotations

from pathlib import Path

from hardware.errors import SensorError

_MAX_BYTES = 64 << 10


def read_text(path: Path) -> str | None:
    """The file's text without surrounding blanks and NULs, or None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return None


def read_number(path: Path, sensor: str) -> int:
    """The decimal integer that the file holds, on a line that has ended.

    Raises:
        SensorError: If the file cannot be read or holds anything else. The kernel ends every number with a newline, so
            one without it was cut short, and is not taken for a smaller number.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SensorError(sensor, f"{path}: {_why(error)}") from error
    if not text.endswith("\n"):
        raise SensorError(sensor, f"{path}: cut short at {text[:40]!r}")
    try:
        return int(text)
    except ValueError as error:
        raise SensorError(sensor, f"{path}: expected an integer, got {text[:40]!r}") from error


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not text"
