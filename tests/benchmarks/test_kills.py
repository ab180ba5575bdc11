"""A few of the kills of `python -m benchmarks.kills`; the command makes hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kills.fleet import Fleet
from benchmarks.kills.rounds import RECIPE, rounds_under_fire
from benchmarks.kills.transfers import kill_at_every_chunk, publish_blob
from protocol.topics import CHUNK_BYTES

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_a_transfer_survives_a_kill_at_every_chunk(published_dir: Path) -> None:
    """Device, cloud and broker: what is on disk is never asked for again, and the whole arrives."""
    ref = publish_blob(published_dir / "cloud", 4 * CHUNK_BYTES + 1)
    with Fleet(published_dir, RECIPE) as fleet:
        found = [
            kill_at_every_chunk(fleet, ref, "device"),
            kill_at_every_chunk(fleet, ref, "device", published=True),
            kill_at_every_chunk(fleet, ref, "broker", published=True),
            kill_at_every_chunk(fleet, ref, "cloud"),
        ]
    assert [(one.kills, one.asked_again, one.whole) for one in found] == [(4, 0, True)] * len(found)


def test_rounds_survive_kills(published_dir: Path) -> None:
    """Nothing is lost, nothing comes twice, no file is another than its name says."""
    with Fleet(published_dir, RECIPE) as fleet:
        tally = rounds_under_fire(fleet, points=6, seed=3, kills_a_round=6)
    assert (tally.kills, tally.clean) == (6, True), tally
