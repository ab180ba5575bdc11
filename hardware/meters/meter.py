"""What every serial meter has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from hardware.meters.port import Port
from hardware.sensor import Source


@dataclass(frozen=True)
class Reading:
    """One reading.

    Attributes:
        at_s: Monotonic seconds that it belongs to, as well as the meter lets one know.
        watts: Power.
        volts: None where the meter does not measure it.
        amps: None where the meter does not say.
    """

    at_s: float
    watts: float
    volts: float | None = None
    amps: float | None = None


class Meter(ABC):
    """A meter on an open port.

    Attributes:
        source: Its identity.
        latency_s: How old a reading may be when it arrives.
        still_s: Longest time for which a live meter says exactly the same; see `hardware.sensor.Sensor`.
        lost: Readings that it sent and that did not arrive whole.
        repeated: Readings dropped because the meter only repeated itself.
    """

    source: Source
    latency_s: float = 0.1
    still_s: float | None = None

    def __init__(self, port: Port) -> None:
        self._port = port
        self.lost = 0
        self.repeated = 0

    @abstractmethod
    def read(self) -> list[Reading]:
        """New readings, at least one, in the order of their times. Waits for them, with a limit of its own.

        Raises:
            MeterError: If the meter is silent, gone, or what it says fails its checks.
        """

    def close(self) -> None:
        """Give the port back."""
        self._port.close()
