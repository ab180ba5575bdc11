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


class EnergySensor(ABC):
    """A counter of energy; only the difference of two readings means anything."""

    source: Source

    @abstractmethod
    def energy_mj(self) -> float:
        """Millijoules counted since this object was made; never falls.

        Raises:
            SensorError: If the counter cannot be read or says nonsense.
        """
