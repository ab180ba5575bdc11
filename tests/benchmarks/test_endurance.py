"""A short life and a few kills of `python -m benchmarks.endurance`; the command does many more of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.endurance.kills import Killing
from benchmarks.endurance.marathon import RECIPE, run
from benchmarks.endurance.plot import save_plot
from cloud_broker.broker import find_mosquitto
from cloud_broker.errors import BrokerNotFoundError
from tests.edge.conftest import ModelFiles, model_files
from tests.end_to_end.conftest import fill

__all__ = ["model_files"]

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def lane_dir(tmp_path: Path, model_files: ModelFiles) -> Path:
    """A folder with a cloud that has published."""
    try:
        find_mosquitto()
    except BrokerNotFoundError as error:
        pytest.skip(str(error))
    fill(tmp_path / "cloud", model_files)
    return tmp_path


def test_events_and_rounds_are_accounted_for(lane_dir: Path) -> None:
    """Each event that was acknowledged, each sample that it made, and each round; and the plot is whole."""
    found = run(lane_dir, events=6_000, rounds=3)
    assert (found.rounds, found.abandoned, found.repeated) == (3, 0, 0)
    assert (found.audit.events, found.audit.exact) == (6_000, True), found.audit
    assert found.audit.kept + sum(found.audit.retired.values()) == found.audit.samples > 1000
    save_plot(lane_dir / "plot.svg", found.looks)
    lines = re.findall(r'<polyline points="([^"]*)"', (lane_dir / "plot.svg").read_text())
    assert [len(line.split()) for line in lines] == [len(found.looks)] * 2


def test_a_device_that_is_killed_goes_on(lane_dir: Path) -> None:
    """It ranks by a model that a round made, loses no event, and finishes its round."""
    tally = Killing(lane_dir, seed=5, recipe=RECIPE).run(6)
    assert (tally.kills, tally.clean) == (6, True), tally
    assert tally.events > 0
