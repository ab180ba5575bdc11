"""How much may wait before a worker's thread, and when whoever finds no room is to come again.

What would wait too long is put off at once: to say no costs a worker a fraction of an answer, and a device that is told
when to come again does not ask twice meanwhile. No clocks, sockets or threads: whoever asks says what time it is.
"""

from __future__ import annotations

import math

from protocol.messages import (
    Contribution,
    Forget,
    Hello,
    Log,
    Offer,
    Query,
    Report,
    RowsRequest,
    Updated,
)

# What begins something. What goes on with something begun (a pull, a piece) is always taken, so that this comes to its
# end; the broker bounds it by the worker's receive maximum. Presence says itself only once.
MAY_BE_PUT_OFF = frozenset(
    message.kind for message in (Query, RowsRequest, Contribution, Forget, Report, Log, Offer, Hello, Updated)
)
PATIENCE_S = 1.0
MAX_WAITING = 1000
LEAST_RETRY_S, MOST_RETRY_S = 1.0, 60.0
_FIRST_SERVICE_S = 0.01
_NEW_SHARE = 0.05  # of the newest service time in the average
_LOAD_OVER_S = 0.5  # what was done longer ago hardly counts


class Lane:
    """What waits before one thread, counted in time.

    Attributes:
        waiting: Messages.

    Args:
        patience_s: What would wait longer is put off, if its kind may be.
        most: Messages that may wait before those that may be put off are.
    """

    def __init__(self, patience_s: float, most: int = MAX_WAITING) -> None:
        self.waiting = 0
        self._patience_s = patience_s
        self._most = most
        self._service_s = _FIRST_SERVICE_S
        self._promised_until_s = 0.0
        self._busy_s = self._busy_at_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long the next one would wait, as far as can be told."""
        return self.waiting * self._service_s

    def admit(self, kind: str, now_s: float) -> float | None:
        """Count a message in, or say in how many seconds there may be room for it.

        Those put off are given times one after the other, each after what it takes to serve one: so they come back no
        faster than they can be served, however many they are.
        """
        put_off = kind in MAY_BE_PUT_OFF and (self.waiting >= self._most or self.wait_s > self._patience_s)
        if not put_off:
            self.waiting += 1
            return None
        self._promised_until_s = max(self._promised_until_s, now_s + self.wait_s) + self._service_s
        return min(max(self._promised_until_s - now_s, LEAST_RETRY_S), MOST_RETRY_S)

    def load(self, now_s: float) -> float:
        """Share of the last half second or so in which the thread was at work."""
        return self._busy_s * math.exp((self._busy_at_s - now_s) / _LOAD_OVER_S) / _LOAD_OVER_S

    def served(self, elapsed_s: float, now_s: float) -> None:
        """Count one out that took the thread so long."""
        self.waiting -= 1
        self._busy_s, self._busy_at_s = self.load(now_s) * _LOAD_OVER_S + elapsed_s, now_s
        self._service_s += _NEW_SHARE * (elapsed_s - self._service_s)

    def dropped(self) -> None:
        """Count one out that was not acted on."""
        self.waiting -= 1
