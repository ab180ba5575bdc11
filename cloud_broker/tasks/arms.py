"""The arms of an experiment, and which of them a device is in: by a stable hash, without a list of devices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from cloud_broker.errors import TaskError
from cloud_broker.tasks.cohorts import share_of
from cloud_broker.tasks.overrides import Overrides

CONTROL = "control"
_MOST_ARMS = 10
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Arm:
    """What some devices of an experiment do.

    Attributes:
        name: Lower-case letters, digits and hyphens.
        overrides: What differs from the task of everyone; nothing for the control.
        weight: Devices it gets, against the other arms' weights.

    Raises:
        TaskError: If a value cannot be.
    """

    name: str
    overrides: Overrides = field(default_factory=Overrides)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise TaskError(f"arm {self.name[:40]!r}: 1 to 32 lower-case letters, digits and hyphens")
        if not 0 < self.weight < 1e6:
            raise TaskError(f"arm {self.name}: a weight above 0, got {self.weight:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "overrides": self.overrides.to_dict(), "weight": self.weight}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """Inverse of `to_dict`."""
        return cls(values["name"], Overrides.from_dict(values["overrides"]), values["weight"])


def check_arms(arms: Sequence[Arm]) -> None:
    """See that arms make an experiment.

    Raises:
        TaskError: If there is no control, nothing to compare it with, or one name twice.
    """
    names = [arm.name for arm in arms]
    if CONTROL not in names or not 2 <= len(names) <= _MOST_ARMS or len(set(names)) < len(names):
        raise TaskError(f"an experiment has {CONTROL!r} and 1 to {_MOST_ARMS - 1} other arms, got {', '.join(names)}")
    idle = [arm.name for arm in arms if (arm.name == CONTROL) == bool(arm.overrides)]
    if idle:
        raise TaskError(f"arm {idle[0]}: the control changes nothing, every other arm something")


def arm_of(device: str, salt: str, arms: Sequence[Arm]) -> Arm:
    """The arm that a device is in; the same each time, whatever other devices there are.

    Args:
        device: Its name.
        salt: The experiment; must not be what its cohort is chosen by, or a cohort of 10% has one arm.
        arms: In the order in which they were named.
    """
    ends = list(accumulate(arm.weight for arm in arms))
    place = share_of(device, f"{salt}/arms") * ends[-1]
    return next((arm for arm, end in zip(arms, ends, strict=True) if place < end), arms[-1])
