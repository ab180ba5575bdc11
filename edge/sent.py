"""What became of the messages that were handed to MQTT."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum

_MAX_KNOWN = 1024  # settled messages whose fate is remembered; whoever cares asks soon
NO_SUBSCRIBERS = 0x10  # MQTT 5: taken by the broker, which has nobody to hand it to


class Fate(Enum):
    """Where a message stands."""

    ON_ITS_WAY = "on its way"  # over reconnections, if need be
    TAKEN = "taken"
    UNHEARD = "unheard"  # taken by a broker that had nobody to hand it to: lost


class Sent:
    """Fates by MQTT's number of the message; guarded by its owner's lock."""

    def __init__(self) -> None:
        self._on_their_way: set[int] = set()
        self._settled: OrderedDict[int, Fate] = OrderedDict()

    @property
    def everything(self) -> bool:
        """Whether the broker has taken all that was sent."""
        return not self._on_their_way

    def handed_over(self, mid: int) -> None:
        """MQTT has it; the number may have been another message's before."""
        self._settled.pop(mid, None)
        self._on_their_way.add(mid)

    def acknowledged(self, mid: int, reason: int) -> None:
        """The broker answered; ``reason`` is MQTT's."""
        if mid in self._on_their_way:
            self._on_their_way.discard(mid)
            self._settled[mid] = Fate.UNHEARD if reason == NO_SUBSCRIBERS else Fate.TAKEN
            while len(self._settled) > _MAX_KNOWN:
                self._settled.popitem(last=False)

    def fate(self, mid: int) -> Fate:
        """Where it stands; one long settled is taken."""
        return Fate.ON_ITS_WAY if mid in self._on_their_way else self._settled.get(mid, Fate.TAKEN)
