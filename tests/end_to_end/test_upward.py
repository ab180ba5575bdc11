"""What the cloud collects from devices: letters too large to be pushed, and logs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from cloud_broker.storage.logs import Logs
from edge.service import EdgeService
from edge.tunnel.mailer import OFFERED_BYTES
from protocol.recipe import Recipe
from tests.edge.samples import SCHEMA, samples
from tests.end_to_end.conftest import WAIT_S, Device

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=50, learning_rate=0.2, classifier_steps=50, match_samples=100)

MakeDevice = Callable[..., Device]


def test_many_samples_are_collected_piece_by_piece(cloud: Any, device: MakeDevice) -> None:
    """A contribution of several hundred kilobytes is offered, collected and in the pool, each sample once."""
    one = device("up-many", contribute=True)
    batch = samples(40_000, noise=0.5)
    times = np.random.default_rng(1).integers(0, int(time.time()), len(batch))
    one.add(type(batch)(batch.schema, batch.features, batch.label, times))
    with one.store() as store:
        letters = store.samples.uncontributed(SCHEMA)
        assert any(len(contribution.samples) > 4 * OFFERED_BYTES for _, contribution in letters)
    with cloud(RECIPE) as service:
        one.run().finish()
        assert service.pool_size() == 1000 + len(batch)


def test_a_device_sends_its_log_when_asked(cloud: Any, device: MakeDevice) -> None:
    """Also while it rests between tasks; its lines tell what happened."""
    one = device("up-log")
    one.add(samples(40))
    ended, stop = threading.Event(), threading.Event()
    service = EdgeService(one.config, lambda event: ended.set() if event["event"] == "round" else None)
    thread = threading.Thread(target=service.run_forever, args=[stop], daemon=True)
    with cloud(RECIPE) as serving, closing(Logs(serving.state_dir)) as logs:
        thread.start()
        assert ended.wait(WAIT_S)
        request_id = logs.ask("up-log")
        deadline_s = time.monotonic() + WAIT_S
        while not logs.answered(request_id) and time.monotonic() < deadline_s:
            threading.Event().wait(0.05)
        stop.set()
        thread.join()
        lines = [json.loads(line) for line in logs.path("up-log", request_id).read_text().splitlines()]
    assert {"phase", "round"} <= {line["event"] for line in lines}
