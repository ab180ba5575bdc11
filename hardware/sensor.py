"""What every source of energy readings has in common: where it is, what it covers, how far to trust it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Kind(str, Enum):
    """How a value came about. Values of different kinds are never added or ranked without a warning."""

    MEASURED = "measured"
    CORRECTED = "measured-corrected"  # measured, then scaled by a correction that is stated
    MODELLED = "modelled"  # computed from something else, such as utilisation


class Scope(str, Enum):
    """What the energy was drawn by, widest first. A narrow scope leaves out the rest of the board."""

    WALL = "wall"  # at the plug, the supply's losses included
    BOARD_INPUT = "board-input"  # everything that enters the board
    BATTERY = "battery"  # everything that leaves the battery
    MODULE = "module"  # a compute module without its carrier board
    PMIC_RAILS = "pmic-rails"  # the rails that the board's power chip measures
    CPU_PACKAGE = "cpu-package"  # the processor package alone
    COMPONENT = "component"  # some part that the sensor's note names


@dataclass(frozen=True)
class Source:
    """A sensor's identity, as records and reports cite it.

    Attributes:
        name: Such as ``rapl`` or ``pi5-pmic``.
        kind: How its values come about.
        scope: What they cover.
        relative_u95: Half-width of its 95% interval as a share of the value; None where nobody stated one.
        note: What a reader must know before using its values.
    """

    name: str
    kind: Kind
    scope: Scope
    relative_u95: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for records."""
        return {**asdict(self), "kind": self.kind.value, "scope": self.scope.value}


class Sensor(ABC):
    """Something that tells energy or power.

    Attributes:
        source: Its identity.
        latency_s: How old a reading may be when it is handed out; blurs the edges of a window by so much.
        still_s: Longest time for which a live sensor says exactly the same; one that does so for longer hangs, and
            what it says is no reading. None where nobody knows.
    """

    source: Source
    latency_s: float = 0.0
    still_s: float | None = None

    def close(self) -> None:  # noqa: B027 (most sensors hold nothing open)
        """Give back what it holds open."""


class EnergySensor(Sensor):
    """A counter of energy; only the difference of two readings means anything.

    Attributes:
        step_mj: Smallest step of the counter.
        breaks: Times that it lost count, as when it was reset; a difference across one means nothing.
    """

    step_mj: float = 0.0
    breaks: int = 0

    @abstractmethod
    def energy_mj(self) -> float:
        """Millijoules counted since this object was made; never falls.

        Raises:
            SensorError: If the counter cannot be read or says nonsense.
        """


class PowerSensor(Sensor):
    """Tells the power of the moment; energy comes from sampling it.

    Attributes:
        most_hz: Readings a second that are new; asking more often repeats them. None where it is not known.
    """

    most_hz: float | None = None

    @abstractmethod
    def power_mw(self) -> float:
        """Milliwatts now.

        Raises:
            SensorError: If it cannot be read or says nonsense.
        """


class StreamSensor(Sensor):
    """Sends powers by itself, at its own pace; they are collected and handed out with the times they belong to.

    Attributes:
        lost: Samples that the sensor sent and that did not arrive whole.
        faults: Times that it could not be read.
        fault: What the last of them said.
    """

    lost: int = 0
    faults: int = 0
    fault: str | None = None

    @abstractmethod
    def drain(self) -> list[tuple[float, float]]:
        """What arrived since the last call: monotonic seconds, rising, and milliwatts. Never waits."""


_SCOPES = list(Scope)


def preference(sensor: Sensor) -> tuple[bool, int]:
    """Sort key: measured before modelled, then the widest scope first."""
    return sensor.source.kind is Kind.MODELLED, _SCOPES.index(sensor.source.scope)
