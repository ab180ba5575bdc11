"""The cloud learns from its devices' reports whether personalising pays, and says so in the task."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from cloud_broker.tasks.fleet_gains import recipe_with_gains
from protocol.fleet_gain import RANKING_GAIN, RANKING_GAIN_ERROR, FleetGain, ReportedGain
from protocol.messages import Report
from protocol.recipe import Recipe


def _report(gain: Any, samples: Any = 20, error: Any = None) -> Report:
    metrics = {RANKING_GAIN: gain, RANKING_GAIN_ERROR: error}
    return Report("round-1", 1, {"outcome": {"samples_local": samples, "metrics": metrics}})


def _gains(count: int) -> list[ReportedGain]:
    return [ReportedGain(20, -0.1, None)] * count


def test_each_devices_last_gain_counts(place: Place) -> None:
    """A round without one changes nothing, and what is no number is passed over."""
    clock = iter(range(100))
    with closing(Ledger(place, clock=lambda: float(next(clock)))) as ledger:
        for device, report in [
            ("dev-a", _report(0.5)),
            ("dev-b", _report(0.1, samples=40, error=0.02)),
            ("dev-a", _report(-0.25)),
            ("dev-a", Report("round-2", 1, {"outcome": {"metrics": {}}})),
            ("dev-c", _report("much")),
            ("dev-d", _report(0.1, samples=-1)),
            ("dev-e", Report("round-1", 1, {"gate": "kept"})),
        ]:
            assert ledger.add_report(device, report, f"{device}-{next(clock)}")
        assert ledger.gains() == [ReportedGain(20, -0.25, None), ReportedGain(40, 0.1, 0.02)]


def test_the_task_says_it_once_enough_have_reported() -> None:
    """Before, it is the operator's recipe."""
    recipe = Recipe(steps=7)
    assert recipe_with_gains(recipe, None, _gains(5)) == recipe
    told = recipe_with_gains(recipe, recipe, _gains(130))
    assert told.steps == 7
    assert told.fleet_gains[0].devices == 130
    assert told.fleet_gains[0].mean == pytest.approx(-0.1)


def test_it_is_renewed_when_reports_have_doubled() -> None:
    """Every other task would be a round for every device."""
    recipe = Recipe()
    told = recipe_with_gains(recipe, recipe, _gains(130))
    assert recipe_with_gains(recipe, told, _gains(259)) == told
    assert recipe_with_gains(recipe, told, _gains(260)).fleet_gains[0].devices == 260
    assert recipe_with_gains(recipe, told, []) == told


def test_an_operator_has_the_last_word() -> None:
    """What the configuration says of the fleet stays."""
    own = Recipe(fleet_gains=(FleetGain(samples_from=0, devices=1, mean=1.0, error=0.0, spread=0.0),))
    assert recipe_with_gains(own, None, _gains(300)) == own
