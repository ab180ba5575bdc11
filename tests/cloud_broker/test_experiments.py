"""Experiments: arms that differ in their task, told apart by what their devices report, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from cloud_broker.storage.place import Place
from cloud_broker.tasks import orders as task_orders
from cloud_broker.tasks.arms import CONTROL, Arm
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.layers import EVERYONE, EXPERIMENT
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.round_history import RoundHistory
from profiling.record import ACTIVATED
from protocol.recipe import Recipe
from tests.cloud_broker.task_fleet import NAMES, SLOW, Fleet, fleet, opened

__all__ = ["fleet"]  # a fixture


@pytest.fixture
def either(place: Place) -> Iterator[Fleet]:
    """The same over SQLite and over PostgreSQL."""
    with opened(place) as one:
        yield one


def test_an_experiment_from_order_to_verdict(either: Fleet) -> None:
    """Every arm, the control too, has a version of its own; what devices report is told apart by it and compared."""
    fleet, tasks = either, either.state.tasks
    arms = (Arm(CONTROL), Arm("slow", SLOW), Arm("same", Overrides({"seed": 2})))
    task_orders.start_experiment(tasks, "rates", Cohort(), arms, least_devices=30)
    fleet.step()
    versions = {task.version: tasks.label_of(task.version) for task in fleet.has.values()}
    assert {label.split("/")[1] for label in versions.values() if label} == {CONTROL, "slow", "same"}
    for number, (device, task) in enumerate(sorted(fleet.has.items())):
        noise = 0.01 * (number * 7919 % 101 - 50) / 50
        gain = 0.02 + noise + (0.02 if task.recipe["learning_rate"] == 0.01 else 0.0)
        fleet.say(device, task.version, ACTIVATED, holdout_ranking_gain=gain)
    with closing(RoundHistory(fleet.place)) as history:
        found = task_orders.results_of(tasks, history, "rates")
        assert history.of_device(NAMES[0], 5)[0].elapsed_s == 2.0
        assert history.of_device(NAMES[0], 5)[0].energy_reason == "not reported"
    assert sum(arm.reported for arm in found.arms) == len(NAMES)
    by_name = {arm.name: arm for arm in found.arms}
    slow = by_name["slow"].differences["ranking_gain_nats"]
    assert slow is not None
    assert slow.low > 0.01 < slow.high
    assert slow.confidence == 0.975
    assert "slow is better than control" in found.verdict
    assert "same: no difference in ranking_gain_nats is shown" in found.verdict
    assert by_name["slow"].means["energy_j"].mean is None
    task_orders.stop(tasks, "rates", EXPERIMENT)
    fleet.step()
    assert {tasks.label_of(task.version) for task in fleet.has.values()} <= {EVERYONE, f"1/{CONTROL}"}


def test_an_experiment_says_what_is_too_early_or_cannot_be_compared(fleet: Fleet) -> None:
    """Few devices say nothing; an arm whose devices stay silent is not compared, however well the others do."""
    tasks = fleet.state.tasks
    task_orders.start_experiment(tasks, "rates", Cohort(), (Arm(CONTROL), Arm("slow", SLOW)), least_devices=30)
    fleet.step()
    with closing(RoundHistory(fleet.place)) as history:
        assert task_orders.results_of(tasks, history, "rates").verdict.startswith("Too early: 30 devices")
        for device in sorted(fleet.having(Recipe().learning_rate)):
            fleet.say(device, fleet.has[device].version, ACTIVATED, holdout_ranking_gain=0.1)
        found = task_orders.results_of(tasks, history, "rates")
    assert found.verdict.startswith("Not comparable")
    assert found.assigned_mismatch > 0.001 > found.reported_mismatch


def test_what_a_device_says_of_another_arm_counts_for_nothing(fleet: Fleet) -> None:
    """Nor does a number that cannot be: one device must not decide what an experiment shows."""
    tasks = fleet.state.tasks
    task_orders.start_experiment(tasks, "rates", Cohort(), (Arm(CONTROL), Arm("slow", SLOW)), least_devices=1)
    fleet.step()
    slow = sorted(fleet.having(0.01))
    for number, (device, task) in enumerate(sorted(fleet.has.items())):
        gain = 1e308 if device in slow[:2] else 0.001 * (number % 7)
        fleet.say(device, task.version, ACTIVATED, holdout_ranking_gain=gain)
        if device not in slow:
            fleet.say(device, fleet.has[slow[0]].version, ACTIVATED, holdout_ranking_gain=0.5)
    with closing(RoundHistory(fleet.place)) as history:
        found = {arm.name: arm for arm in task_orders.results_of(tasks, history, "rates").arms}
    assert found["slow"].reported == len(slow)
    assert found["slow"].means["ranking_gain_nats"].devices == len(slow) - 2
    mean = found["slow"].means["ranking_gain_nats"].mean
    assert mean is not None
    assert mean < 0.01
