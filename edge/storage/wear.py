"""Bytes that the device's process sent to storage, by day, kept from run to run: an SD card bears only so many.

The kernel counts them for the process (``write_bytes`` of `/proc/self/io`): each page that was changed, as often as it
went out. What the card itself writes for each, and what the system's journal writes, is not among them.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hardware.durable import write_private
from hardware.files import read_text

KEPT_DAYS = 60
_SETTLE_EVERY_S = 3600.0


class Wear:
    """Counts on.

    Args:
        path: The file that keeps the days; one that cannot be read or written is done without.
        now: The time believed, in seconds since 1970.
        written: Bytes that this process wrote so far; None where the kernel does not say.
    """

    def __init__(self, path: Path, now: Callable[[], float], written: Callable[[], int | None] | None = None) -> None:
        self._path = path
        self._now = now
        self._written = written or written_bytes
        self._lock = threading.Lock()
        self._days = load_days(path)
        self._counted = self._written()
        self._due_s = time.monotonic() + _SETTLE_EVERY_S

    def settle_if_due(self) -> None:
        """`settle`, now and then."""
        if time.monotonic() >= self._due_s:
            self.settle()

    def settle(self) -> dict[str, int]:
        """Write down what was written since the last time; bytes by day (UTC), the oldest first."""
        with self._lock:
            self._due_s = time.monotonic() + _SETTLE_EVERY_S
            total = self._written()
            if total is not None and self._counted is not None:
                today = time.strftime("%Y-%m-%d", time.gmtime(self._now()))
                self._days[today] = self._days.get(today, 0) + max(0, total - self._counted)
                self._counted = total
                self._days = dict(sorted(self._days.items())[-KEPT_DAYS:])
                with contextlib.suppress(OSError):  # counted on, and written down another time
                    write_private(self._path, json.dumps(self._days).encode())
            return dict(self._days)


def written_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process sent to storage so far; None where the kernel does not say."""
    found = re.search(r"^write_bytes: (\d+)$", read_text(root / "proc/self/io") or "", re.MULTILINE)
    return int(found[1]) if found else None


def load_days(path: Path) -> dict[str, int]:
    """Bytes by day, from the file that a `Wear` keeps; none where it cannot be read."""
    try:
        days = json.loads(path.read_bytes())
        return {str(day): int(count) for day, count in days.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def mean_per_day(days: dict[str, int]) -> int | None:
    """Bytes a day over the whole days that are known, or over today where there is no other; None for none.

    A day on which the service did not run counts for nothing, as it wears nothing.
    """
    whole = list(days.values())[:-1] or list(days.values())
    return round(sum(whole) / len(whole)) if whole else None
