"""What a cloud worker's bytes are for."""

from __future__ import annotations

from profiling.data_use import DataUse, Metering
from profiling.traffic import Traffic
from protocol.purposes import SAMPLES, purpose_of

_MAX_DEVICES = 100_000


class Accounts:
    """A worker's bytes by purpose, and their writing down.

    Attributes:
        traffic: Counts the worker's connection.

    Args:
        use: Where bytes are written down.
    """

    def __init__(self, use: DataUse) -> None:
        self.traffic = Traffic(self._purpose_of)
        self._metering = Metering(self.traffic.by_purpose, use)
        self._transfers: dict[str, str] = {}

    def transfer(self, device: str, purpose: str) -> None:
        """What a device pulls from now on is for this purpose; it pulls one blob at a time."""
        if len(self._transfers) >= _MAX_DEVICES:
            self._transfers.clear()  # those under way count as samples until they ask for their next chunks
        self._transfers[device] = purpose

    def settle(self, worker: str) -> None:
        """Write down what is new, for the worker of that name."""
        self._metering.settle(worker)

    def _purpose_of(self, topic: str) -> str:
        device = topic.split("/", 4)[3:4]
        return purpose_of(topic, self._transfers.get("".join(device), SAMPLES))
