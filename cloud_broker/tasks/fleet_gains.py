"""What the fleet's reports say of personalising, put into the recipe of the task.

A device whose gate kept h0 reports its gain as well, so a fleet that was told to keep h0 finds out when tuning pays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protocol.fleet_gain import FleetGain, ReportedGain, learn_fleet_gains
from protocol.recipe import Recipe

_GROWTH = 2  # another task is another round for every device, so the word is renewed for so many times the reports


def recipe_with_gains(recipe: Recipe, current: Recipe | None, reports: Iterable[ReportedGain]) -> Recipe:
    """The operator's recipe with what the fleet says.

    Args:
        recipe: As configured; what it says of the fleet itself stays.
        current: Of the task that devices have; its word of the fleet stays until reports have doubled.
        reports: One a device.
    """
    if recipe.fleet_gains:
        return recipe
    learnt, told = learn_fleet_gains(reports), () if current is None else current.fleet_gains
    renewed = _devices(learnt) >= _GROWTH * _devices(told) and learnt
    return replace(recipe, fleet_gains=learnt if renewed else told)


def gain_from(samples: Any, gain: Any, error: Any) -> ReportedGain | None:
    """What a report's record holds; None where it holds no gain, or what cannot be one."""
    if not isinstance(samples, int) or samples < 0 or not _is_number(gain):
        return None
    return ReportedGain(samples, float(gain), float(error) if _is_number(error) and error >= 0 else None)


def _devices(gains: tuple[FleetGain, ...]) -> int:
    return max((entry.devices for entry in gains), default=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
