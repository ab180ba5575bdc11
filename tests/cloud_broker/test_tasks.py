"""Tasks by cohort: who has which, what stops a rollout, and what survives whom."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from cloud_broker.errors import CohortError, TaskError
from cloud_broker.storage.database import SharedDatabase, keep
from cloud_broker.storage.place import Place
from cloud_broker.storage.stages import CANARY, CANDIDATE
from cloud_broker.storage.tables import ASSIGNMENT, TASK
from cloud_broker.tasks import orders as task_orders
from cloud_broker.tasks.arms import CONTROL, Arm
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.content import payload_of
from cloud_broker.tasks.device_view import devices
from cloud_broker.tasks.layers import EVERYONE, ROLLOUT
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import DONE, PAUSED, RUNNING, STOPPED, Bounds, Plan, Stage
from profiling.record import ABANDONED, ACTIVATED, KEPT_H0
from protocol.messages import Hello, Task
from protocol.recipe import Recipe
from tests.cloud_broker.samples import SCHEMA
from tests.cloud_broker.task_fleet import BLOB, NAMES, OTHER, PLAN, SLOW, Fleet, fleet, opened, well

__all__ = ["fleet"]  # a fixture


def test_a_rollout_takes_devices_stage_by_stage(fleet: Fleet) -> None:
    """A tenth, then half with that tenth in it, then all; each device hears once, and nobody is taken back."""
    fleet.report(well)
    task_orders.roll_out(fleet.state.tasks, "calmer", Cohort(), SLOW, PLAN)
    sizes = []
    before: set[str] = set()
    for _ in range(3):
        fleet.step()
        assert fleet.having(0.01) >= before
        before = fleet.having(0.01)
        sizes.append(len(before))
        fleet.step(61)  # nobody has reported yet: time alone does not take it on
        assert fleet.having(0.01) == before
        fleet.report(well)
        fleet.step()
    assert 8 <= sizes[0] <= 35
    assert 75 <= sizes[1] <= 125
    assert sizes[2] == len(NAMES)
    assert fleet.state.tasks.layers.named("calmer").progress.state == DONE
    assert [event["percent"] for event in fleet.events] == [50, 100, 100]
    assert {task.version for task in fleet.has.values()} == {2}


def test_a_bad_rollout_stops_by_itself_and_gives_the_old_task_back(fleet: Fleet) -> None:
    """Rounds that fail stop it in its first stage; the old content comes back, newer than what it replaces."""
    fleet.report(well)
    task_orders.roll_out(fleet.state.tasks, "wild", Cohort(), Overrides({"learning_rate": 50.0}), PLAN)
    fleet.step()
    struck = fleet.having(50.0)
    fleet.report(lambda device, task: ABANDONED if task.recipe["learning_rate"] == 50.0 else well(device, task))
    fleet.step()
    stopped = fleet.state.tasks.layers.named("wild").progress
    assert stopped.state == STOPPED
    assert stopped.reason.startswith(f"rounds fail on {len(struck)} of {len(struck)}")
    assert fleet.events[-1] == {"event": "rollout-stopped", "rollout": "wild", "reason": stopped.reason}
    assert fleet.having(50.0) == set()
    assert {fleet.has[device].version for device in struck} == {3}
    assert {fleet.has[device].version for device in set(NAMES) - struck} == {1}
    fleet.step(10_000)
    assert len(fleet.events) == 1


def test_gates_that_refuse_more_than_the_rests_stop_it(fleet: Fleet) -> None:
    """Though no round fails."""
    fleet.report(well)
    task_orders.roll_out(fleet.state.tasks, "timid", Cohort(), SLOW, PLAN)
    fleet.step()
    fleet.report(lambda _device, _task: KEPT_H0)
    fleet.step()
    assert "gates refuse" in fleet.state.tasks.layers.named("timid").progress.reason


def test_a_restart_at_any_moment_goes_on(place: Place) -> None:
    """Between the order, the decision and the telling: what is on disk says what devices have, and nothing is lost."""
    now = [1000.0]
    with opened(place, now) as first:
        first.report(well)
        task_orders.roll_out(first.state.tasks, "wild", Cohort(), Overrides({"learning_rate": 50.0}), PLAN)
    with opened(place, now) as second:
        second.step()
        struck = second.having(50.0)
        second.done = first.done
        second.report(lambda _device, task: ABANDONED if task.recipe["learning_rate"] == 50.0 else None)
        layer = second.state.tasks.layers.named("wild")
        assert second.state.tasks.layers.turn(layer, layer.progress.stop("killed before it told anybody"))
    with opened(place, now) as third:
        assert len(struck) > 5
        assert third.having(50.0) == set()
        assert {third.has[device].version for device in struck} == {3}


def test_an_operators_word_counts(fleet: Fleet) -> None:
    """Paused, nothing goes on; resumed, it does; stopped, all have the old task, and it cannot be undone."""
    fleet.report(well)
    tasks = fleet.state.tasks
    task_orders.roll_out(tasks, "calmer", Cohort(), SLOW, PLAN)
    fleet.step()
    task_orders.pause(tasks, "calmer")
    fleet.report(well)
    fleet.step(1000)
    assert tasks.layers.named("calmer").progress.state == PAUSED
    assert len(fleet.having(0.01)) < 40
    task_orders.stop(tasks, "calmer", ROLLOUT)
    fleet.step()
    assert fleet.having(0.01) == set()
    said = tasks.layers.changes(tasks.layers.named("calmer"))
    assert [change["state"] for change in said] == [RUNNING, PAUSED, STOPPED]
    assert said[-1]["reason"] == task_orders.BY_HAND
    for wrong in (task_orders.pause, task_orders.resume):
        with pytest.raises(TaskError, match="stopped"):
            wrong(tasks, "calmer")
    with pytest.raises(TaskError, match="already"):
        task_orders.roll_out(tasks, "calmer", Cohort(), SLOW, PLAN)
    with pytest.raises(TaskError, match="no rollout 'other'"):
        task_orders.stop(tasks, "other", ROLLOUT)


def test_a_decision_on_what_is_no_longer_so_comes_too_late(fleet: Fleet) -> None:
    """A stage is not begun over an operator's stop, nor is a stopped rollout's task given after the old one."""
    tasks = fleet.state.tasks
    layer = task_orders.roll_out(tasks, "calmer", Cohort(), SLOW, PLAN)
    task_orders.stop(tasks, "calmer", ROLLOUT)
    assert not tasks.layers.turn(layer, layer.progress.pause())
    assert tasks.layers.named("calmer").progress.state == STOPPED


def test_the_newest_rollout_that_a_device_is_in_counts(fleet: Fleet) -> None:
    """Over an older one, which it has again when the newer is stopped; devices of neither have everyone's."""
    tasks = fleet.state.tasks
    now = Plan((Stage(100, 0, 0),))
    task_orders.roll_out(tasks, "older", Cohort(devices=NAMES[:20]), SLOW, now)
    task_orders.roll_out(tasks, "newer", Cohort(devices=NAMES[10:30]), Overrides({"learning_rate": 0.02}), now)
    fleet.step()
    assert fleet.having(0.01) == set(NAMES[:10])
    assert fleet.having(0.02) == set(NAMES[10:30])
    task_orders.stop(tasks, "newer", ROLLOUT)
    fleet.step()
    assert fleet.having(0.01) == set(NAMES[:20])
    assert len(fleet.having(Recipe().learning_rate)) == len(NAMES) - 20


def test_everyones_task_changes_below_a_rollout(fleet: Fleet) -> None:
    """What it does not name follows; and what it made everyone's at last is not done again."""
    tasks = fleet.state.tasks
    task_orders.roll_out(tasks, "calmer", Cohort(devices=NAMES[:20]), SLOW, Plan((Stage(100, 0, 0),)))
    fleet.step()
    tasks.make_current(SCHEMA, Recipe(steps=7), OTHER, OTHER)
    fleet.take(tasks.reassign())
    assert {task.recipe["steps"] for task in fleet.has.values()} == {7}
    assert fleet.having(0.01) == set(NAMES[:20])
    tasks.make_current(SCHEMA, Recipe(steps=7, learning_rate=0.01), OTHER, OTHER)
    task_orders.stop(tasks, "calmer", ROLLOUT)
    told = tasks.reassign()
    assert {device for device, _ in told} == set(NAMES[20:])


def test_tags_and_boards_choose_devices(fleet: Fleet) -> None:
    """Also those that come later: a device is given what is for it when it says what it is."""
    tasks, ledger = fleet.state.tasks, fleet.state.ledger
    for device in NAMES[:3]:
        assert tasks.tags.change(device, ["shop=berlin", "line=2"], without=["line"]) == ("line=2", "shop=berlin")
        ledger.note_hello(device, Hello("coda", "tflite", "Raspberry Pi 5", ()))
    ledger.note_hello(NAMES[0], Hello("coda", "tflite", "Raspberry Pi 4", ()))
    cohort = Cohort(board="Raspberry Pi 5*", tags=("shop=berlin",))
    task_orders.roll_out(tasks, "berlin", cohort, SLOW, Plan((Stage(100, 0, 0),)))
    fleet.step()
    assert fleet.having(0.01) == set(NAMES[1:3])
    tasks.tags.change("new", ["shop=berlin"])
    given = tasks.assign("new", "Raspberry Pi 5")
    assert given is not None
    assert given.recipe["learning_rate"] == 0.01
    assert tasks.assign("new", "Raspberry Pi 5") is None
    assert tasks.tags.change(NAMES[1], without=["shop"]) == ("line=2",)
    for wrong in ((NAMES[1], ["berlin"]), ("not/a/name", ["a=b"]), (NAMES[1], [f"k{n}=v" for n in range(40)])):
        with pytest.raises(CohortError):
            tasks.tags.change(*wrong)
    rows = devices(ledger, tasks)
    assert (rows["dev-002"]["rollout"], rows["dev-002"]["tags"]) == ("berlin", ["line=2", "shop=berlin"])
    assert (rows["dev-000"]["rollout"], rows["dev-000"]["board"]) == (None, "Raspberry Pi 4")
    assert (rows["dev-199"]["online"], rows["dev-199"]["seen_s"], rows["dev-199"]["task"]) == (None, None, 1)


def test_each_device_counts_once(fleet: Fleet) -> None:
    """A rollout's by its first report, everyone's by its last; a version that it was not given counts for nothing."""
    tasks = fleet.state.tasks
    task_orders.roll_out(tasks, "calmer", Cohort(devices=NAMES[:2]), SLOW, PLAN)
    fleet.step()
    label = tasks.label_of(2)
    assert label not in (None, EVERYONE)
    for decision in (ACTIVATED, ABANDONED):
        fleet.say(NAMES[0], 2, decision)
        fleet.say(NAMES[1], 1, decision)
    for device, version in ((NAMES[1], 99), (NAMES[5], 2), ("stranger", 1)):
        fleet.say(device, version, ABANDONED)
    told, rest = tasks.standings.told(label or ""), tasks.standings.told(EVERYONE)
    assert (told.devices, told.failures, rest.devices, rest.failures) == (1, 0, 1, 1)


def test_two_processes_that_give_tasks_at_once_agree(place: Place) -> None:
    """Whoever a device speaks to: it has one task, and the highest version that it was ever told."""
    with opened(place) as fleet:
        task_orders.roll_out(fleet.state.tasks, "calmer", Cohort(percent=50), SLOW, Plan((Stage(100, 0, 0),)))
        told: list[tuple[str, Task]] = []

        def give() -> None:
            with closing(TaskBook(place)) as book:
                told.extend((name, task) for name in NAMES[:40] if (task := book.assign(name)) is not None)

        threads = [threading.Thread(target=give) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = fleet.state.tasks.held()
        newest: dict[str, int] = {}
        for name, task in told:
            newest[name] = max(newest.get(name, 0), task.version)
        assert newest
        assert all(held[name] == version for name, version in newest.items())


def test_an_order_that_makes_no_sense_is_refused(fleet: Fleet) -> None:
    """Before any device hears of it."""
    tasks = fleet.state.tasks
    with pytest.raises(TaskError, match="changes nothing"):
        task_orders.roll_out(tasks, "same", Cohort(), Overrides({"steps": Recipe().steps}), PLAN)
    with pytest.raises(TaskError, match="at least 1"):
        task_orders.start_experiment(tasks, "e", Cohort(), (Arm(CONTROL), Arm("a", SLOW)), least_devices=0)
    with pytest.raises(TaskError, match="disclosed for nothing"):
        task_orders.roll_out(tasks, "opinions", Cohort(), Overrides({"opinions": 50}), PLAN)
    with pytest.raises(TaskError, match="no model is the canary"):
        task_orders.model_of(fleet.state.registry, "canary")
    with pytest.raises(TaskError, match="a version's number"):
        task_orders.model_of(fleet.state.registry, "newest")
    assert tasks.layers.on() == []


def test_the_canary_is_rolled_out_and_goes_live(fleet: Fleet) -> None:
    """A candidate is not; what some devices have as the canary they need not do again when it is everyone's."""
    tasks, registry = fleet.state.tasks, fleet.state.registry
    live = registry.publish(SCHEMA, b"h0", b"g", {})
    newer = registry.publish(SCHEMA, b"newer h0", b"newer g", {}, stage=CANDIDATE)
    fleet.take(fleet.keeper.renew(live))
    with pytest.raises(TaskError, match="model 2 is candidate"):
        task_orders.model_of(registry, "2")
    registry.stages.promote(2, CANARY)
    model = task_orders.model_of(registry, "canary")
    assert model == task_orders.model_of(registry, "2")
    task_orders.roll_out(tasks, "newer", Cohort(devices=NAMES[:20]), Overrides(model=model), Plan((Stage(100, 0, 0),)))
    fleet.step()
    having = {device for device, task in fleet.has.items() if task.recommender == newer.recommender}
    assert having == set(NAMES[:20])
    registry.stages.promote(2)
    task_orders.stop(tasks, "newer", ROLLOUT)
    assert {device for device, _ in fleet.keeper.renew(registry.find(2))} == set(NAMES[20:])


def test_bounds_of_a_rollout_are_its_own(fleet: Fleet) -> None:
    """An operator who says that every gate may refuse is believed, where the rest has said nothing."""
    tasks = fleet.state.tasks
    plan = Plan((Stage(100, 10, 0),), Bounds(most_refused=1.0))
    task_orders.roll_out(tasks, "timid", Cohort(devices=NAMES[:20]), SLOW, plan)
    fleet.step()
    fleet.now[0] += 1
    fleet.report(lambda _device, task: KEPT_H0 if task.version == 2 else None)
    fleet.step()
    assert tasks.layers.named("timid").progress.state == DONE


def test_tasks_of_before_there_were_layers_are_everyones(place: Place) -> None:
    """A book from then is read on: its devices keep what they have, and nothing is asked of them again."""
    task = Task(7, SCHEMA.to_dict(), Recipe().to_dict(), BLOB, BLOB)
    with closing(SharedDatabase(place)) as database, database.transaction() as connection:
        connection.execute(keep(TASK), {"version": 7, "payload": payload_of(task)})
        connection.execute(keep(ASSIGNMENT), {"device": NAMES[0], "version": 7})
    with closing(TaskBook(place)) as book:
        assert book.current() == task
        assert book.make_current(SCHEMA, Recipe(), BLOB, BLOB) == task
        assert book.reassign() == []
        assert book.label_of(7) == EVERYONE
