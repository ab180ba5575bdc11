"""Tells when the wall clock is wrong, and what waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edge.config import EdgeConfig
from edge.errors import EdgeError
from edge.scheduling.known_time import KnownTime, date_of, why_not_followed
from edge.tunnel.validity import Validity, validity


def clock_fault(config: EdgeConfig, known: KnownTime, now_s: float | None = None) -> str | None:
    """What is wrong with the wall clock, in words; None where nothing is known to be.

    Args:
        config: Names the device's certificate.
        known: The time believed.
        now_s: The wall clock; this machine's by default.
    """
    now_s = time.time() if now_s is None else now_s
    valid = _validity(config)
    if valid is not None and now_s < valid.begins_s:
        begins = date_of(valid.begins_s)
        return f"the clock says {date_of(now_s)}, and the device's certificate begins {begins}: the link waits for NTP"
    return why_not_followed(known.look(keep=False))


def _validity(config: EdgeConfig) -> Validity | None:
    try:
        return validity(config.cert_file)
    except EdgeError:
        return None  # told by whoever needs the certificate


class ClockWatch:
    """Emits ``clock-wrong`` with its reason when the clock turns wrong, and ``clock-right`` when it is right again.

    Args:
        config: Names the device's certificate: it cannot be earlier than that was made.
        known: The time believed.
        emit: Told.
        now: The wall clock, in seconds since 1970.
    """

    def __init__(
        self,
        config: EdgeConfig,
        known: KnownTime,
        emit: Callable[[dict[str, Any]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._now = now
        self._known = known
        self._emit = emit
        self._wrong = False
        valid = _validity(config)
        self._begins_s = float("-inf") if valid is None else valid.begins_s
        known.not_before(self._begins_s)

    def look(self) -> bool:
        """Whether the clock is wrong; cheap, to be called often."""
        wrong = self._known.look().off_by_s is not None or self._now() < self._begins_s
        if wrong and not self._wrong:
            reason = clock_fault(self._config, self._known, self._now())
            self._emit({"event": "clock-wrong", "reason": reason or "it was set just now"})
        elif self._wrong and not wrong:
            self._emit({"event": "clock-right"})
        self._wrong = wrong
        return wrong
