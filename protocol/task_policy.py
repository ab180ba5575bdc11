"""What a task may ask of the moment at which its round is done; beside what the device's owner allows, never instead.

A task's policy can only make a device wait longer: both it and the owner's policy must let a round begin. The bounds
are those of the device's own configuration, and stand here for both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from protocol.errors import MalformedMessageError

BOUNDS: dict[str, tuple[float, float]] = {
    "least_battery": (0.0, 1.0),
    "least_idle_cpu": (0.0, 1.0),
    "most_temperature_c": (0.0, 120.0),
    "least_new_samples": (0, 1_000_000),
    "drift": (0.0, 100.0),
}
"""Least and most of every number in a policy; `edge.scheduling.policy.Policy` says what each means."""
FLAGS = ("on_battery", "while_throttled", "on_metered_link")
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
NAMES = frozenset({*BOUNDS, *FLAGS, "hours"})


def fault_of(name: str, value: Any) -> str | None:
    """What is wrong with a value of a policy's; None where nothing is, or where it is none of `NAMES`."""
    if name in BOUNDS:
        least, most = BOUNDS[name]
        if not least <= value <= most:
            return f"policy.{name} {value} is not in {least:g}..{most:g}"
    if name == "hours" and HOURS.fullmatch(value) is None:
        return f"policy.hours {value!r} is not like 22:00-06:30"
    return None


def check_task_policy(values: Mapping[str, Any]) -> None:
    """See that a task's policy can be read.

    Raises:
        MalformedMessageError: If a name is unknown, or a value of another type or out of bounds.
    """
    unknown = sorted(str(name)[:40] for name in set(values) - NAMES)
    if unknown:
        raise MalformedMessageError(f"task: unknown in its policy: {unknown}; known are {', '.join(sorted(NAMES))}")
    for name, value in values.items():
        fault = None if _is_of_type(name, value) else f"policy.{name} cannot be {str(value)[:40]!r}"
        if fault := fault or fault_of(name, value):
            raise MalformedMessageError(f"task: {fault}")


def _is_of_type(name: str, value: Any) -> bool:
    if name in FLAGS:
        return isinstance(value, bool)
    if name == "hours":
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if name == "least_new_samples" else (int, float)):
        return False
    return math.isfinite(value)
