"""A bad recipe on its way to real devices while the cloud's parts are killed: it stops, and devices do the old task."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker import task_orders
from cloud_broker.cohorts import Cohort
from cloud_broker.layers import ROLLOUT
from cloud_broker.ledger import Ledger
from cloud_broker.overrides import Overrides
from cloud_broker.staging import STOPPED, Bounds, Plan, Stage
from cloud_broker.tasks import TaskBook
from edge.service import EdgeService
from profiling.record import KEPT_H0
from protocol.messages import Task
from tests.broker_fixtures import FleetBroker, Peer
from tests.cloud_broker.test_workers import Running, config_file, supervised
from tests.edge.conftest import ModelFiles
from tests.edge.samples import samples
from tests.end_to_end.conftest import WAIT_S, Device, fill

pytestmark = pytest.mark.broker

NAMES = tuple(f"kiosk-{number}" for number in range(6))
_STEPS = "[recipe]\nsteps = 20\nclassifier_steps = 20\nmatch_samples = 100\nlearning_rate = 0.05\n"
_WILD = Overrides({"learning_rate": 1e6})
# Six devices are few: that most of them may not refuse is what an operator of so few would say.
_PLAN = Plan((Stage(50, 1, 0), Stage(100, 1, 0)), Bounds(most_refused=0.25))


def wait_until(what: Callable[[], bool]) -> None:
    """Return once it is so."""
    deadline_s = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def do_rounds(devices: Iterable[Device]) -> list[tuple[int, str]]:
    """Each device wakes, does its task and sleeps again; version and decision of each."""
    with ThreadPoolExecutor(3) as pool:
        records = list(pool.map(lambda device: EdgeService(device.config).run_once(), devices))
    return [(record.task_version, record.outcome.decision) for record in records if record is not None]


def kill_workers(running: Running) -> None:
    """As the kernel would for want of memory."""
    for name in ("cloud", "cloud-2"):
        os.kill(running.pid(name), signal.SIGKILL)


@pytest.mark.slow
def test_a_bad_recipe_stops_by_itself_though_the_cloud_is_killed(
    own_broker: FleetBroker, model_files: ModelFiles, device: Callable[..., Device], tmp_path: Path
) -> None:
    """Its gates refuse, first on a few devices, then on the rest; all end with the old recipe, also who was away."""
    fill(tmp_path / "cloud", model_files)
    path = config_file(own_broker, tmp_path / "cloud")
    path.write_text(path.read_text() + _STEPS)
    fleet = {name: device(name, own_broker) for name in NAMES}
    for number, one in enumerate(fleet.values()):
        one.add(samples(60, seed=number))
    with supervised(path) as running, closing(TaskBook(tmp_path / "cloud")) as tasks:
        assert {version for version, _ in do_rounds(fleet.values())} == {1}
        task_orders.roll_out(tasks, "wild", Cohort(devices=NAMES), _WILD, _PLAN)
        wait_until(lambda: 2 in tasks.held().values())
        first = [name for name, version in tasks.held().items() if version == 2]
        assert len(first) == 4  # of these names, the same each time
        kill_workers(running)
        assert set(do_rounds(fleet[name] for name in first)) == {(2, KEPT_H0)}
        wait_until(lambda: set(tasks.held().values()) == {2})
        own_broker.broker.kill()
        own_broker.broker.start()
        fifth, away = (name for name in NAMES if name not in first)
        assert do_rounds([fleet[fifth]]) == [(2, KEPT_H0)]
        wait_until(lambda: tasks.layers.named("wild", ROLLOUT).progress.state == STOPPED)
        wait_until(lambda: set(tasks.held().values()) == {3})
        for name in NAMES:  # the broker has it a moment after the database
            wait_until(lambda name=name: _retained(own_broker, name) == 3)  # type: ignore[misc]
        assert {version for version, _ in do_rounds(fleet.values())} == {3}
        task = tasks.version(3)
        assert task is not None
        assert task.recipe["learning_rate"] == 0.05
    with closing(Ledger(tmp_path / "cloud")) as ledger:
        done = [(name, record["task_version"]) for name, record in ledger.reports()]
    assert sorted(done) == [(name, v) for name in NAMES for v in (1, 2, 3) if (name, v) != (away, 2)]


def _retained(broker: FleetBroker, device: str) -> int:
    """Version of the task that the broker keeps for a device."""
    with Peer(broker, broker.device(device)) as peer:
        peer.listen()
        task = peer.hear("task").message
        assert isinstance(task, Task)
        return task.version
