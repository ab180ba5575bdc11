"""A fleet of devices that do what their tasks say, over a cloud's real stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.config import CloudConfig
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.state import State
from cloud_broker.storage.ledger import Ledger
from cloud_broker.storage.place import Place
from cloud_broker.tasks.book import TaskBook
from cloud_broker.tasks.keeper import TaskKeeper
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import Plan, Stage
from cloud_broker.workers.answer_store import AnswerStore
from profiling.record import ACTIVATED, KEPT_H0
from protocol.messages import BlobRef, Report, Task
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
