"""A device that serves its app while it does rounds, from the first event to being forgotten."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.client import Client
from edge.config import ApiConfig
from edge.events import Event as AppEvent
from edge.events import EventKind
from edge.service import EdgeService
from protocol.recipe import Recipe
from tests.end_to_end.conftest import Device, Event

pytestmark = pytest.mark.broker
MakeDevice = Callable[..., Device]
WAIT_S = 60.0
RECIPE = Recipe(steps=100, learning_rate=0.2, classifier_steps=50, min_local_samples=10)


def test_an_app_from_first_event_to_being_forgotten(
    cloud: Any, device: MakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of before any task become samples of the first round, whose model ranks; forgetting reaches the cloud."""
    monkeypatch.setattr("edge.service.IDLE_LOOK_S", 0.1)
    one = device("serving", contribute=True, api=ApiConfig(socket=tmp_path / "api.sock"))
    with one.store() as store:
        liked = [AppEvent(EventKind.CLICK, item, int(time.time())) for item in range(2, 32, 2)]
        skipped = [AppEvent(EventKind.SKIP, item, int(time.time())) for item in range(3, 33, 2)]
        store.events.add([*liked, *skipped], None, one.config.events)
    heard: queue.Queue[Event] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=EdgeService(one.config, heard.put).run_forever, args=[stop], daemon=True)

    def hear(name: str) -> Event:
        while True:
            if (event := heard.get(timeout=WAIT_S))["event"] == name:
                return event

    with cloud(RECIPE) as running:
        before = running.pool_size()
        thread.start()
        record, version = hear("round")["record"], hear("serving")["model"]
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
                stop.wait(0.01)
        assert running.pool_size() == before
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    assert not (tmp_path / "api.sock").exists()
