"""A bad recipe on its way to real devices while the cloud's parts are killed: it stops, and devices do the old task."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks import orders as task_orders
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import Bounds, Plan, Stage
from edge.service import EdgeService
from profiling.record import KEPT_H0
from protocol.messages import Task
from tests.broker_fixtures import FleetBroker, Peer
from tests.cloud_broker.test_workers import config_file, supervised
from tests.edge.conftest import ModelFiles
from tests.edge.samples import samples
from tests.end_to_end.conftest import WAIT_S, Device, fill

pytestmark = pytest.mark.broker

FIRST = ("kiosk-1", "kiosk-2", "kiosk-3")  # by the hash of their names and the rollout's
FOURTH, AWAY = "kiosk-0", "kiosk-4"
NAMES = (*FIRST, FOURTH, AWAY)
_RECIPE = "[recipe]\nsteps = 20\nclassifier_steps = 20\nmatch_samples = 100\nlearning_rate = 0.05\n"
_WILD = Overrides({"learning_rate": 1e6})
# So few devices are little evidence: that hardly any may refuse is what an operator of so few would say.
_PLAN = Plan((Stage(50, 1, 0), Stage(100, 1, 0)), Bounds(most_refused=0.15))


def do_rounds(devices: Iterable[Device]) -> list[tuple[int, str]]:
    """Each device wakes, does its task and sleeps again; version and decision of each."""
    with ThreadPoolExecutor(3) as pool:
        records = list(pool.map(lambda device: EdgeService(device.config).run_once(), devices))
    return [(record.task_version, record.outcome.decision) for record in records if record is not None]


def hear(broker: FleetBroker, device: str, version: int) -> Task:
    """A version of the task, once the broker has it for a device."""
    with Peer(broker, broker.device(device)) as peer:
        peer.listen()
        while True:
            task = peer.hear("task").message
            assert isinstance(task, Task)
            if task.version == version:
                return task


@pytest.mark.slow
def test_a_bad_recipe_stops_by_itself_though_the_cloud_is_killed(
    own_broker: FleetBroker, model_files: ModelFiles, device: Callable[..., Device], tmp_path: Path
) -> None:
    """Its gates refuse, first on a few devices, then on another; all end with the old recipe, also who was away."""
    fill(tmp_path / "cloud", model_files)
    path = config_file(own_broker, tmp_path / "cloud")
    path.write_text(path.read_text() + _RECIPE)
    fleet = {name: device(name, own_broker, timeout_s=WAIT_S) for name in NAMES}
    for number, one in enumerate(fleet.values()):
        one.add(samples(60, seed=number))
    with supervised(path) as running:
        assert {version for version, _ in do_rounds(fleet.values())} == {1}
        with closing(TaskBook(tmp_path / "cloud")) as tasks:
            task_orders.roll_out(tasks, "wild", Cohort(devices=NAMES), _WILD, _PLAN)
        for name in FIRST:
            hear(own_broker, name, 2)
        for worker in ("cloud", "cloud-2"):
            os.kill(running.pid(worker), signal.SIGKILL)
        assert do_rounds(fleet[name] for name in FIRST) == [(2, KEPT_H0)] * 3
        assert running.wait_for("rollout-stage")["percent"] == 100
        for name in (FOURTH, AWAY):
            hear(own_broker, name, 2)
        own_broker.broker.kill()
        own_broker.broker.start()
        hear(own_broker, FOURTH, 2)  # which the broker may have lost, and the cloud tells it again
        assert do_rounds([fleet[FOURTH]]) == [(2, KEPT_H0)]
        assert running.wait_for("rollout-stopped")["reason"].startswith("gates refuse on 4 of 4 (100%)")
        assert {hear(own_broker, name, 3).recipe["learning_rate"] for name in NAMES} == {0.05}
        assert {version for version, _ in do_rounds(fleet.values())} == {3}
    with closing(Ledger(tmp_path / "cloud")) as ledger:
        done = [(name, record["task_version"]) for name, record in ledger.reports()]
    assert sorted(done) == sorted((name, v) for name in NAMES for v in (1, 2, 3) if (name, v) != (AWAY, 2))
