"""What a fleet's gains come to, and how far a device is drawn toward them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessageError
from protocol.fleet_gain import (
    FEWEST_DEVICES,
    FleetGain,
    ReportedGain,
    fleet_gains_from,
    gain_of_fleet,
    learn_fleet_gains,
)
from protocol.recipe import Recipe

_FLEET = FleetGain(samples_from=0, devices=100, mean=0.02, error=0.001, spread=0.01)
_GAINS = st.floats(-1, 1)


def _reports(count: int, samples: int, mean: float = 0.1) -> list[ReportedGain]:
    return [ReportedGain(samples, mean + 0.01 * (i % 2), None) for i in range(count)]


def test_too_few_reports_say_nothing() -> None:
    """A mean of a few hold-outs is noise as well."""
    assert learn_fleet_gains(_reports(FEWEST_DEVICES - 1, 20)) == ()
    assert learn_fleet_gains([]) == ()
    assert gain_of_fleet((), 20) is None


def test_devices_are_compared_with_those_that_have_as_many_samples() -> None:
    """By ranges that double, where they differ; where a range is thin, with the whole fleet."""
    gains = learn_fleet_gains([*_reports(140, 20, 0.1), *_reports(160, 100, 0.3), *_reports(3, 1000)])
    assert [(entry.samples_from, entry.devices) for entry in gains] == [(0, 303), (16, 140), (64, 160)]
    few, many, other = (gain_of_fleet(gains, samples) for samples in (31, 127, 1000))
    assert few is not None
    assert many is not None
    assert few.mean == pytest.approx(0.105)
    assert many.mean == pytest.approx(0.305)
    assert other == gains[0]


def test_a_range_that_differs_by_noise_does_not_speak_for_itself() -> None:
    """Or it would keep h0 on its devices by chance."""
    rng = np.random.default_rng(1)
    gains = learn_fleet_gains(ReportedGain(20 + i % 100, float(rng.normal(0.01, 0.1)), None) for i in range(1000))
    assert [entry.samples_from for entry in gains] == [0]


def test_spread_and_noise_are_told_apart() -> None:
    """Of gains that scatter with 0.3 where hold-outs alone scatter with 0.2, the devices differ by the rest."""
    rng = np.random.default_rng(1)
    gains = 0.05 + rng.normal(0, math.sqrt(0.3**2 - 0.2**2), 5000) + rng.normal(0, 0.2, 5000)
    (fleet, *_) = learn_fleet_gains(ReportedGain(50, float(gain), 0.2) for gain in gains)
    assert fleet.mean == pytest.approx(0.05, abs=0.02)
    assert fleet.error == pytest.approx(0.3 / math.sqrt(5000), rel=0.05)
    assert fleet.spread == pytest.approx(math.sqrt(0.05), rel=0.1)


def test_one_device_does_not_speak_for_the_fleet() -> None:
    """A report out of all proportion counts as a large one, and one that is no number not at all."""
    reports = [*_reports(99, 20, 0.1), ReportedGain(20, -1e9, 1e9), ReportedGain(20, math.nan, None)]
    (fleet, *_) = learn_fleet_gains(reports)
    assert fleet.devices == 100
    assert fleet.mean > 0.08


@given(gain=_GAINS, error=st.floats(0, 10), mean=_GAINS)
def test_what_is_expected_lies_between_the_fleet_and_the_device(gain: float, error: float, mean: float) -> None:
    """Nearer to the fleet the less the device's own hold-out can be believed."""
    fleet = replace(_FLEET, mean=mean)
    expected = fleet.expected(gain, error)
    assert min(gain, mean) - 1e-9 <= expected <= max(gain, mean) + 1e-9
    assert abs(fleet.expected(gain, 2 * error + 0.1) - mean) <= abs(expected - mean) + 1e-9
    assert fleet.expected(gain, None) == mean


def test_a_recipe_carries_them() -> None:
    """Through JSON and back, as the other fields; a silent fleet leaves the recipe as devices of before it know it."""
    recipe = Recipe(fleet_gains=(_FLEET, replace(_FLEET, samples_from=16)))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert "fleet_gains" not in Recipe().to_dict()


@pytest.mark.parametrize(
    "wrong",
    [
        "many",
        [None],
        [{"mean": 1.0}],
        [{**asdict(_FLEET), "mean": "much"}],
        [{**asdict(_FLEET), "mean": math.nan}],
        [{**asdict(_FLEET), "spread": -0.1}],
        [asdict(_FLEET)] * 65,
    ],
)
def test_what_cannot_be_is_refused(wrong: Any) -> None:
    """Of another shape, not finite, below 0, or without end."""
    with pytest.raises(MalformedMessageError, match="fleet_gains"):
        fleet_gains_from(wrong)
