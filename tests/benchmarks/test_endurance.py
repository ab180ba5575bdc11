"""A short life and a few kills of `python -m benchmarks.endurance`; the command does many more of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.endurance.kills import Killing
from benchmarks.endurance.marathon import RECIPE, run
from benchmarks.endurance.plot import save_plot

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_events_and_rounds_are_accounted_for(published_dir: Path) -> None:
    """Each event that was acknowledged, each sample that it made, and each round; and the plot is whole."""
    found = run(published_dir, events=6_000, rounds=3)
    assert (found.rounds, found.abandoned, found.repeated) == (3, 0, 0)
    assert (found.audit.events, found.audit.exact) == (6_000, True), found.audit
    assert found.audit.kept + sum(found.audit.retired.values()) == found.audit.samples > 1000
    save_plot(published_dir / "plot.svg", found.looks)
    lines = re.findall(r'<polyline points="([^"]*)"', (published_dir / "plot.svg").read_text())
    assert [len(line.split()) for line in lines] == [len(found.looks)] * 2


def test_a_device_that_is_killed_goes_on(published_dir: Path) -> None:
    """It ranks by a model that a round made, loses no event, and finishes its round."""
    tally = Killing(published_dir, seed=5, recipe=RECIPE).run(6)
    assert (tally.kills, tally.clean) == (6, True), tally
    assert tally.events > 0
