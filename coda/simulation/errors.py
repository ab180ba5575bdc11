"""What can go wrong with simulated devices; part of `coda.errors`' tree."""

from __future__ import annotations

from coda.errors import FrontDoorError


class SimulationError(FrontDoorError):
    """The simulation cannot go on."""


class BrokenPacketError(SimulationError):
    """What came from the broker is no MQTT."""
