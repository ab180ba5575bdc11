"""A device's connection as states: when to connect, what to say first, and when a silent one is dead.

::

    OFFLINE --(delay is over)--> CONNECTING --connected--> SUBSCRIBING --subscribed--> ONLINE
       ^__________________________lost, or refused_____________|______________________|      any --close--> CLOSED

No sockets, threads or clocks: what happens is told, what to do is answered.
"""

from __future__ import annotations

from enum import Enum

FIRST_DELAY_S, LAST_DELAY_S = 0.5, 60.0
SILENT_S = 20.0


class State(Enum):
    """Where a connection stands."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    ONLINE = "online"
    CLOSED = "closed"


class Connection:
    """One device's connections, one after the other.

    Attributes:
        state: Where the present one stands.
        number: Connections that the broker accepted so far.
    """

    def __init__(self) -> None:
        self.state = State.OFFLINE
        self.number = 0
        self._delay_s = FIRST_DELAY_S
        self._progress = -1
        self._progress_s = 0.0

    @property
    def usable(self) -> bool:
        """Whether messages may be handed to it."""
        return self.state is State.ONLINE

    def begin(self) -> bool:
        """Whether to connect now, if the delay is over."""
        if self.state is not State.OFFLINE:
            return False
        self.state = State.CONNECTING
        return True

    def connected(self) -> bool:
        """The broker accepts us.

        Returns:
            Whether to subscribe; if not, to disconnect. To subscribe also where the broker kept our session: it may
            have lost the subscription with its disk.
        """
        if self.state is not State.CONNECTING:
            return False
        self.state = State.SUBSCRIBING
        self.number += 1  # messages that waited may arrive before the subscription is confirmed
        return True

    def subscribed(self) -> bool:
        """The broker lets us read.

        Returns:
            Whether we are online now.
        """
        if self.state is not State.SUBSCRIBING:
            return False
        self.state = State.ONLINE
        self._delay_s = FIRST_DELAY_S
        self._progress = -1
        return True

    def lost(self) -> None:
        """The connection ended, or none came about."""
        if self.state is not State.CLOSED:
            self.state = State.OFFLINE

    def delay_s(self, jitter: float) -> float:
        """Seconds to wait before `begin`; they double until we were online again.

        Args:
            jitter: A random number in [0, 1), so that a fleet does not return in step.
        """
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LAST_DELAY_S)
        return delay_s * (0.5 + jitter)

    def close(self) -> bool:
        """End it for good.

        Returns:
            Whether there is somebody to say goodbye to.
        """
        online, self.state = self.usable, State.CLOSED
        return online

    def dead(self, now_s: float, progress: int, *, expecting: bool) -> bool:
        """Whether a connection is half open: it should move, and has not for `SILENT_S`.

        Args:
            now_s: A monotonic clock's reading.
            progress: A number that changes when bytes arrive, at either end.
            expecting: Whether something was said that the broker has not acknowledged.
        """
        if not expecting or progress != self._progress or not self.usable:
            self._progress, self._progress_s = progress, now_s
            return False
        return now_s - self._progress_s >= SILENT_S
