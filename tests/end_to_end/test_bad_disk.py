"""A round that finds no room on the device's disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.client import Client
from edge.config import ApiConfig
from protocol.recipe import Recipe
from tests.disk_fixtures import SmallDisk, small_disk
from tests.edge.samples import samples
from tests.end_to_end.conftest import WAIT_S, Device, RunningDevice

__all__ = ["small_disk"]

pytestmark = pytest.mark.broker
RECIPE = Recipe(steps=50, learning_rate=0.2, classifier_steps=50, min_local_samples=10)


def test_a_round_waits_for_room(
    cloud: Any, device: Callable[..., Device], small_disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of the round before goes on ranking, the service goes on, and so does the round once there is room."""
    monkeypatch.setattr("edge.service.DISK_RETRY_S", 0.2)
    monkeypatch.setattr("edge.waiting.IDLE_LOOK_S", 0.1)
    socket = tmp_path / "api.sock"
    one = device("no-room", state_dir=small_disk.path / "state", api=ApiConfig(socket=socket))
    one.add(samples(60))
    with RunningDevice(one.config) as service:
        with cloud(RECIPE):
            first, version = service.hear("round")["record"], service.hear("serving")["model"]
        small_disk.fill()
        with (
            cloud(Recipe(steps=60, learning_rate=0.2, classifier_steps=50, min_local_samples=10)),
            Client(str(socket), WAIT_S) as app,
        ):
            assert service.hear("disk-unusable")["fault"] == "full"
            assert app.rank([1, 2, 3])["model"] == version
            assert app.status()["disk"] == "full"
            small_disk.make_room()
            second = service.hear("round")["record"]
            assert app.status()["disk"] == "ok"
            assert (second["task_version"], second["outcome"]["decision"]) != (first["task_version"], "abandoned")
            assert second["round_id"] != first["round_id"]
