"""Tasks by cohort: who has which, what stops a rollout, and what survives whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.config import CloudConfig
from cloud_broker.errors import CohortError, TaskError
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.state import State
from cloud_broker.storage.database import SharedDatabase, keep
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from cloud_broker.storage.stages import CANARY, CANDIDATE
from cloud_broker.storage.tables import ASSIGNMENT, TASK
from cloud_broker.tasks import orders as task_orders
from cloud_broker.tasks.arms import CONTROL, Arm
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.content import payload_of
from cloud_broker.tasks.device_view import devices
from cloud_broker.tasks.keeper import TaskKeeper
from cloud_broker.tasks.layers import EVERYONE, EXPERIMENT, ROLLOUT
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.round_history import RoundHistory
from cloud_broker.tasks.staging import DONE, PAUSED, RUNNING, STOPPED, Bounds, Plan, Stage
from cloud_broker.workers.answer_store import AnswerStore
from profiling.record import ABANDONED, ACTIVATED, KEPT_H0
from protocol.messages import BlobRef, Hello, Report, Task
from protocol.recipe import Recipe
from tests.cloud_broker.samples import SCHEMA

BLOB, OTHER = BlobRef("a" * 64, 10), BlobRef("b" * 64, 20)
MODEL = PublishedModel(1, 0.0, SCHEMA, BLOB, BLOB, {})
NAMES = tuple(f"dev-{number:03d}" for number in range(200))
SLOW = Overrides({"learning_rate": 0.01})
PLAN = Plan((Stage(10, 5, 60), Stage(50, 20, 60), Stage(100, 40, 60)))


@dataclass
class Fleet:
    """A cloud's state, its keeper, and devices that do what they are told: real stores, no broker and no rounds."""

    place: Place
    state: State
    keeper: TaskKeeper
    events: list[dict[str, Any]]
    now: list[float]
    has: dict[str, Task] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def take(self, given: list[tuple[str, Task]]) -> None:
        """Devices hear their tasks, and never an older one than they have."""
        for device, task in given:
            assert task.version > self.has[device].version if device in self.has else True
            self.has[device] = task

    def step(self, seconds: float = 0.0) -> None:
        """Time passes, and the keeper looks."""
        self.now[0] += seconds
        self.take(self.keeper.step())

    def report(self, decide: Any) -> None:
        """Every device does its task, once a version; ``decide`` says what comes of it, None for a device away."""
        for device, task in sorted(self.has.items()):
            decision = decide(device, task)
            if self.done.get(device) != task.version and decision is not None:
                self.done[device] = task.version
                self.say(device, task.version, decision)

    def say(self, device: str, version: int, decision: str, **metrics: float) -> None:
        """One report, twice as the line may have it."""
        record = {"outcome": {"decision": decision, "reason": "why", "metrics": metrics}, "totals": {"elapsed_s": 2.0}}
        report, message_id = Report(f"{device}-{version}", version, record), f"{device}-{version}"
        for _ in range(2):
            self.state.ledger.add_report(device, report, message_id)
            self.state.tasks.standings.note(device, report)

    def having(self, rate: float) -> set[str]:
        """Devices whose task has that learning rate."""
        return {device for device, task in self.has.items() if task.recipe["learning_rate"] == rate}


@contextmanager
def opened(place: Place, now: list[float] | None = None) -> Iterator[Fleet]:
    """A fleet over what is there."""
    now = now or [1000.0]
    events: list[dict[str, Any]] = []
    with ExitStack() as parts:
        ledger = parts.enter_context(closing(Ledger(place, clock=lambda: now[0])))
        tasks = parts.enter_context(closing(TaskBook(place, clock=lambda: now[0])))
        registry = parts.enter_context(closing(Registry(place)))
        state = State(registry, ledger, tasks, AnswerStore(place.state_dir))
        here = Path()
        config = CloudConfig(
            fleet="f", host="h", port=1, ca_file=here, cert_file=here, key_file=here, state_dir=here, devices=NAMES
        )
        keeper = TaskKeeper(config, state, events.append, clock=lambda: now[0])
        fleet = Fleet(place, state, keeper, events, now, tasks.assigned())
        fleet.take(keeper.renew(MODEL))
        yield fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """200 devices that have everyone's task; over SQLite."""
    with opened(Place(tmp_path)) as one:
        yield one


def well(_device: str, _task: Task) -> str:
    """Three in ten refuse, as everywhere."""
    return KEPT_H0 if sum(_device.encode()) % 10 < 3 else ACTIVATED


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
