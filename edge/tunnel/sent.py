"""What became of the messages that were handed to MQTT."""

from __future__ import annotations

import threading
from collections import OrderedDict
from enum import Enum

_MAX_KNOWN = 1024  # settled messages whose fate is remembered; whoever cares asks soon
_MAX_EARLY = 16
NO_SUBSCRIBERS = 0x10  # MQTT 5: taken by the broker, which has nobody to hand it to


class Fate(Enum):
    """Where a message stands."""

    ON_ITS_WAY = "on its way"  # over reconnections, if need be
    TAKEN = "taken"
    UNHEARD = "unheard"  # taken by a broker that had nobody to hand it to: lost


class Sent:
    """Fates by MQTT's number of the message.

    It has a lock of its own and waits for no other: MQTT's client tells of acknowledgements while it holds a lock that
    whoever publishes needs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on_their_way: set[int] = set()
        self._early: OrderedDict[int, Fate] = OrderedDict()  # answered before `handed_over` was called
        self._settled: OrderedDict[int, Fate] = OrderedDict()

    @property
    def everything(self) -> bool:
        """Whether the broker has taken all that was sent."""
        with self._lock:
            return not self._on_their_way

    def handed_over(self, mid: int) -> None:
        """MQTT has it; the number may have been another message's before."""
        with self._lock:
            self._settled.pop(mid, None)
            early = self._early.pop(mid, None)
            if early is None:
                self._on_their_way.add(mid)
            else:
                _remember(self._settled, mid, early, _MAX_KNOWN)

    def acknowledged(self, mid: int, reason: int) -> None:
        """The broker answered; ``reason`` is MQTT's."""
        fate = Fate.UNHEARD if reason == NO_SUBSCRIBERS else Fate.TAKEN
        with self._lock:
            if mid in self._on_their_way:
                self._on_their_way.discard(mid)
                _remember(self._settled, mid, fate, _MAX_KNOWN)
            else:
                _remember(self._early, mid, fate, _MAX_EARLY)

    def fate(self, mid: int) -> Fate:
        """Where it stands; one long settled is taken."""
        with self._lock:
            return Fate.ON_ITS_WAY if mid in self._on_their_way else self._settled.get(mid, Fate.TAKEN)


def _remember(fates: OrderedDict[int, Fate], mid: int, fate: Fate, most: int) -> None:
    fates[mid] = fate
    while len(fates) > most:
        fates.popitem(last=False)
