"""The fleet's word in an evaluation: each device hears what the devices of other users reported, as its task would say.

Devices first play without a fleet and report what their hold-outs showed. Users are then parted into `GROUPS`; a device
hears the mean gain of the other groups' devices, over all seeds and folds of the study, and its gate decides anew. So
no device hears itself, in another seed neither, and nothing hangs on a test sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.learning.gate import Decision, hear_fleet
from evaluation.scores import DeviceRow
from protocol.fleet_gain import FleetGain, learn_fleet_gains
from protocol.recipe import Recipe

GROUPS = 5


def after_fleet(rows: Sequence[DeviceRow], recipe: Recipe) -> tuple[DeviceRow, ...]:
    """The rows, in their order, with what ``coda`` serves after the fleet was heard.

    Args:
        rows: Of devices with about as many local samples; each has the arm ``cloud``.
        recipe: Of all devices.
    """
    told = [replace(recipe, fleet_gains=_fleet_beside(group, rows)) for group in range(GROUPS)]
    return tuple(_heard(row, told[row.user % GROUPS]) for row in rows)


def _fleet_beside(group: int, rows: Sequence[DeviceRow]) -> tuple[FleetGain, ...]:
    return learn_fleet_gains(row.gain for row in rows if row.gain is not None and row.user % GROUPS != group)


def _heard(row: DeviceRow, recipe: Recipe) -> DeviceRow:
    if row.gain is None or not row.activated:
        return row
    own = Decision(True, row.gate, 0, ranking_gain=row.gain.gain, ranking_gain_error=row.gain.error)
    decision = hear_fleet(own, row.samples_local, recipe)
    if decision.activate:
        return row
    scores = {**row.scores, "coda": row.scores["cloud"]}
    return replace(row, activated=False, gate=decision.reason, scores=scores)
