"""What time it surely is, on boards without a clock of their own: until NTP sets it, a wall clock may be years off.

Samples are forgotten by their age, so a wall clock that jumps a year ahead would forget them all. The time believed
here moves with the kernel's uptime. The wall clock is followed where it is near; where it is not, only once NTP has set
it, or once it has gone steadily for a day.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hardware.durable import write_private
from hardware.files import read_text

NEAR_S = 7 * 86400.0  # also how long a board may lie without power before its clock needs to be confirmed
SETTLED_S = 86400.0
_SYNCHRONISED = Path("run/systemd/timesync/synchronized")  # touched at each success, every 34 minutes at the least
_FRESH_S = 2 * 3600.0
_SAVE_EVERY_S = 3600.0


@dataclass(frozen=True)
class Reading:
    """The machine's clocks at one moment.

    Attributes:
        unix_s: The wall clock.
        uptime_s: Since the board booted, sleep included.
        boot: Names the boot that this is counted from.
        confirmed: Whether the wall clock is known to have been set by NTP lately.
    """

    unix_s: float
    uptime_s: float
    boot: str
    confirmed: bool


@dataclass(frozen=True)
class Belief:
    """What time it was at an uptime.

    Attributes:
        unix_s: The time believed.
        uptime_s: Of then.
        boot: The boot that the uptime is counted from.
        off_by_s: How far ahead of it the wall clock is that is not followed; None where it is.
        off_since_s: The uptime since when that is so.
        passed_s: What has surely passed where that is later: a wall clock that goes back by days is followed, but what
            was over stays over until NTP, or a day's steady run, says otherwise.
    """

    unix_s: float
    uptime_s: float
    boot: str
    off_by_s: float | None = None
    off_since_s: float | None = None
    passed_s: float | None = None

    @property
    def surely_s(self) -> float:
        """What has surely passed, in seconds since 1970."""
        return self.unix_s if self.passed_s is None else max(self.unix_s, self.passed_s)

    def after(self, reading: Reading) -> Belief:
        """What to believe once the clocks were read. Far back the wall clock is followed no more than far ahead."""
        same_boot = reading.boot == self.boot
        elapsed_s = max(0.0, reading.uptime_s - self.uptime_s) if same_boot else 0.0
        expected_s, passed_s = self.unix_s + elapsed_s, self.surely_s + elapsed_s
        off_by_s = reading.unix_s - expected_s
        if reading.confirmed:
            return Belief(reading.unix_s, reading.uptime_s, reading.boot)
        if abs(off_by_s) <= NEAR_S:
            back = passed_s if passed_s > reading.unix_s else None
            return Belief(reading.unix_s, reading.uptime_s, reading.boot, passed_s=back)
        steady = same_boot and self.off_by_s is not None and abs(off_by_s - self.off_by_s) <= NEAR_S
        since_s = self.off_since_s if steady and self.off_since_s is not None else reading.uptime_s
        if reading.uptime_s - since_s >= SETTLED_S:
            return Belief(reading.unix_s, reading.uptime_s, reading.boot)
        ahead = passed_s if passed_s > expected_s else None
        return Belief(expected_s, reading.uptime_s, reading.boot, off_by_s, since_s, ahead)


class KnownTime:
    """The time believed, kept on disk from run to run; safe to use from any thread.

    Args:
        path: The file that keeps it; one that cannot be read or written is done without.
        read: Reads the clocks.
    """

    def __init__(self, path: Path, read: Callable[[], Reading] | None = None) -> None:
        self._path = path
        self._read = read or read_clocks
        self._lock = threading.Lock()
        self._saved_s = float("-inf")
        self._belief = _load(path)

    def look(self, *, keep: bool = True) -> Belief:
        """Read the clocks, and what is believed now; ``keep`` is off where this is not the service's own process."""
        with self._lock:
            reading, before = self._read(), self._belief
            now = Belief(reading.unix_s, reading.uptime_s, reading.boot) if before is None else before.after(reading)
            self._belief = now
            turned = before is None or (before.off_by_s is None) != (now.off_by_s is None)
            if keep and (turned or abs(now.unix_s - self._saved_s) >= _SAVE_EVERY_S):
                self._save(now)
            return now

    def not_before(self, unix_s: float) -> None:
        """It cannot be earlier than this: a certificate was made then. Put on disk with the next `look`."""
        belief = self.look(keep=False)
        with self._lock:
            if belief.unix_s < unix_s:
                self._belief = replace(belief, unix_s=unix_s)

    @property
    def unix_s(self) -> float:
        """The time believed, in seconds since 1970."""
        return self.look().unix_s

    def _save(self, belief: Belief) -> None:
        self._saved_s = belief.unix_s
        with contextlib.suppress(OSError):  # a full disk stops no clock
            write_private(self._path, json.dumps(asdict(belief)).encode())


def _load(path: Path) -> Belief | None:
    try:
        values = json.loads(path.read_bytes())
        belief = Belief(**values)
        numbers = (belief.unix_s, belief.uptime_s, *(one or 0.0 for one in (belief.off_by_s, belief.off_since_s)))
        numbers += (belief.passed_s or 0.0,)
        return belief if all(abs(float(number)) < 1e12 for number in numbers) else None
    except (OSError, ValueError, TypeError):
        return None


def read_clocks(root: Path = Path("/")) -> Reading:
    """The machine's clocks; systemd-timesyncd says when it set them last.

    Args:
        root: Where the machine's files are; another folder in tests.
    """
    now_s = time.time()
    try:
        confirmed = 0.0 <= now_s - (root / _SYNCHRONISED).stat().st_mtime <= _FRESH_S
    except OSError:
        confirmed = False
    return Reading(now_s, time.clock_gettime(time.CLOCK_BOOTTIME), boot_id(root), confirmed)


def boot_id(root: Path = Path("/")) -> str:
    """Names this boot of the machine; "" where the kernel does not."""
    return (read_text(root / "proc/sys/kernel/random/boot_id") or "").strip()


def why_not_followed(belief: Belief) -> str | None:
    """Why the wall clock is not believed, in words; None where it is."""
    if belief.off_by_s is None:
        return None
    told, known = (date_of(belief.unix_s + off_s) for off_s in (belief.off_by_s, 0.0))
    return f"the clock says {told}, {known} is believed until NTP or a day's steady run confirms it"


def date_of(unix_s: float) -> str:
    """A time for a person."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s))
    except (OverflowError, ValueError, OSError):
        return f"{unix_s:.0f} s after 1970"
