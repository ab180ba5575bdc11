"""A few of the kills of `python -m benchmarks.kills`; the command makes hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.kills.fleet import Fleet
from benchmarks.kills.rounds import RECIPE, rounds_under_fire
from benchmarks.kills.transfers import kill_at_every_chunk, publish_blob
from cloud_broker.broker import find_mosquitto
from cloud_broker.errors import BrokerNotFoundError
from protocol.topics import CHUNK_BYTES
from tests.edge.conftest import ModelFiles, model_files
from tests.end_to_end.conftest import fill

__all__ = ["model_files"]

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def fleet_dir(tmp_path: Path, model_files: ModelFiles) -> Path:
    """A folder with a cloud that has published."""
    try:
        find_mosquitto()
    except BrokerNotFoundError as error:
        pytest.skip(str(error))
    fill(tmp_path / "cloud", model_files)
    return tmp_path


def test_a_transfer_survives_a_kill_at_every_chunk(fleet_dir: Path) -> None:
    """Device, cloud and broker: what is on disk is never asked for again, and the whole arrives."""
    ref = publish_blob(fleet_dir / "cloud", 4 * CHUNK_BYTES + 1)
    with Fleet(fleet_dir, RECIPE) as fleet:
        found = [
            kill_at_every_chunk(fleet, ref, "device"),
            kill_at_every_chunk(fleet, ref, "device", published=True),
            kill_at_every_chunk(fleet, ref, "broker", published=True),
            kill_at_every_chunk(fleet, ref, "cloud"),
        ]
    assert [(one.kills, one.asked_again, one.whole) for one in found] == [(4, 0, True)] * len(found)


def test_rounds_survive_kills(fleet_dir: Path) -> None:
    """Nothing is lost, nothing comes twice, no file is another than its name says."""
    with Fleet(fleet_dir, RECIPE) as fleet:
        tally = rounds_under_fire(fleet, points=6, seed=3, kills_a_round=6)
    assert (tally.kills, tally.clean) == (6, True), tally
