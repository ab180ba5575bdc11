"""A device that serves its app while it does rounds, from the first event to being forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.client import Client
from edge.config import ApiConfig
from edge.feedback.events import Event as AppEvent
from edge.feedback.events import EventKind
from protocol.recipe import Recipe
from tests.end_to_end.conftest import WAIT_S, Device, RunningDevice

pytestmark = pytest.mark.broker
MakeDevice = Callable[..., Device]
RECIPE = Recipe(steps=100, learning_rate=0.2, classifier_steps=50, min_local_samples=10)


def test_an_app_from_first_event_to_being_forgotten(
    cloud: Any, device: MakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of before any task become samples of the first round, whose model ranks; forgetting reaches the cloud."""
    monkeypatch.setattr("edge.waiting.IDLE_LOOK_S", 0.1)
    one = device("serving", contribute=True, api=ApiConfig(socket=tmp_path / "api.sock"))
    with one.store() as store:
        liked = [AppEvent(EventKind.CLICK, item, int(time.time())) for item in range(2, 32, 2)]
        skipped = [AppEvent(EventKind.SKIP, item, int(time.time())) for item in range(3, 33, 2)]
        store.events.add([*liked, *skipped], None, one.config.events)
    pause = threading.Event()
    with cloud(RECIPE) as running:
        before = running.pool_size()
        with RunningDevice(one.config) as service:
            record, version = service.hear("round")["record"], service.hear("serving")["model"]
            assert record["outcome"]["samples_local"] == 30
            assert record["conditions"]["policy"].startswith("power: ")
            assert running.pool_size() == before + 30
            with Client(str(tmp_path / "api.sock"), WAIT_S) as app:
                assert app.rank(list(range(1, 40)))["model"] == version
                assert app.tell([{"kind": "click", "item": 40}])["samples"] == 1
                assert app.forget()["samples"] == 31
                assert app.rank([1, 2])["model"] == version.partition("-")[0]
                deadline_s = time.monotonic() + WAIT_S
                deleted = {"event": "forgotten", "device": "serving", "samples": 30}
                while deleted not in running.events or app.status()["outbox_bytes"]:
                    assert time.monotonic() < deadline_s
                    pause.wait(0.01)
            assert running.pool_size() == before
    assert not (tmp_path / "api.sock").exists()
