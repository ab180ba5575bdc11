"""What is laid over the task of everyone: rollouts and experiments, each for a cohort; the newest on top.

A layer's name begins its devices' hash, so another layer begins with other devices. The label of a task says where it
comes from: `EVERYONE`, a rollout's number, or an experiment's number and an arm's name, ``4/slow``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy import insert as plain_insert

from cloud_broker.errors import StorageError, TaskError
from cloud_broker.storage.database import SharedDatabase
from cloud_broker.storage.place import Place
from cloud_broker.storage.task_tables import LAYER, LAYER_CHANGE
from cloud_broker.tasks.arms import Arm, arm_of
from cloud_broker.tasks.cohorts import Cohort
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.staging import RUNNING, STOPPED, Plan, Progress

EVERYONE = ""
ROLLOUT, EXPERIMENT = "rollout", "experiment"
_NOTHING = Overrides()

_NEWEST_FIRST = select(LAYER).order_by(LAYER.c.number.desc())
_ON = _NEWEST_FIRST.where(LAYER.c.state != STOPPED)
_OF_NAME = select(LAYER).where(LAYER.c.name == bindparam("called"))
_OF_NUMBER = select(LAYER).where(LAYER.c.number == bindparam("of"))
_LAST_CHANGE = select(func.max(LAYER_CHANGE.c.change))
_CHANGES = (
    select(LAYER_CHANGE.c.at_s, LAYER_CHANGE.c.state, LAYER_CHANGE.c.stage, LAYER_CHANGE.c.reason)
    .where(LAYER_CHANGE.c.number == bindparam("of"))
    .order_by(LAYER_CHANGE.c.change)
)


@dataclass(frozen=True)
class Layer:
    """A rollout or an experiment.

    Attributes:
        number: Rises with each.
        name: By which an operator knows it.
        kind: `ROLLOUT` or `EXPERIMENT`.
        cohort: Whom it is for.
        arms: What they do; a rollout has one.
        plan: A rollout's stages and bounds; None of an experiment.
        least_devices: That must have reported in each of an experiment's arms before it says anything.
        progress: Where it stands.
    """

    number: int
    name: str
    kind: str
    cohort: Cohort
    arms: tuple[Arm, ...]
    plan: Plan | None
    least_devices: int
    progress: Progress

    @property
    def percent(self) -> float:
        """Share of the fleet that it is for now, of those that fit its cohort otherwise."""
        share = 100.0 if self.plan is None else self.plan.stages[self.progress.stage].percent
        return self.cohort.percent * share / 100

    def label_of(self, arm: Arm) -> str:
        """Where a task of this arm comes from."""
        return str(self.number) if self.kind == ROLLOUT else f"{self.number}/{arm.name}"

    def has(self, device: str, board: str, tags: Collection[str]) -> bool:
        """Whether a device is in it now."""
        return replace(self.cohort, percent=self.percent).has(device, board, self.name, tags)

    def arm_for(self, device: str) -> Arm:
        """The arm of a device that is in it."""
        return self.arms[0] if self.kind == ROLLOUT else arm_of(device, self.name, self.arms)


def laid_over(layers: Iterable[Layer], device: str, board: str, tags: Collection[str]) -> tuple[str, Overrides]:
    """The label of a device's task, and what it changes of everyone's.

    Args:
        layers: That are not stopped, the newest first.
        device: Its name.
        board: Its board.
        tags: Its tags.
    """
    for layer in layers:
        if layer.has(device, board, tags):
            arm = layer.arm_for(device)
            return layer.label_of(arm), arm.overrides
    return EVERYONE, _NOTHING


class Layers:
    """All layers of a cloud; safe to use from several threads, and beside other processes."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open them.

        Raises:
            StorageError: If the database cannot be used.
        """
        self._database = SharedDatabase(where)
        self._clock = clock

    def begin(self, name: str, kind: str, cohort: Cohort, arms: tuple[Arm, ...], plan: Plan | int) -> Layer:
        """Lay a new one over all others.

        Args:
            name: Not used before.
            kind: `ROLLOUT` or `EXPERIMENT`.
            cohort: Whom it is for.
            arms: What they do.
            plan: Of a rollout; of an experiment, its ``least_devices``.

        Raises:
            TaskError: If the name is taken.
        """
        if self._database.rows(_OF_NAME, called=name):
            raise TaskError(
                f"there is a rollout or experiment {name!r} already: its devices' hash begins with its name"
            )
        plain = plan.to_dict() if isinstance(plan, Plan) else {"least_devices": plan}
        progress = Progress(RUNNING, 0, self._clock())
        values = {
            "name": name, "kind": kind, "cohort": cohort.to_dict(), "arms": [arm.to_dict() for arm in arms],
            "plan": plain, **vars(progress),
        }  # fmt: skip
        with self._database.transaction() as connection:
            connection.execute(plain_insert(LAYER), values)
            number = connection.execute(_OF_NAME, {"called": name}).one().number
            self._note(connection, number, progress)
        return self.named(name)

    def turn(self, layer: Layer, progress: Progress) -> bool:
        """Note a layer's new progress; False, and nothing is noted, if somebody changed it meanwhile."""
        before = layer.progress
        unchanged = (LAYER.c.number == layer.number, LAYER.c.state == before.state, LAYER.c.stage == before.stage)
        with self._database.transaction() as connection:
            turned = connection.execute(update(LAYER).where(*unchanged).values(**vars(progress))).rowcount == 1
            if turned:
                self._note(connection, layer.number, progress)
        return turned

    def on(self) -> list[Layer]:
        """Those that are not stopped, the newest first."""
        return [_layer(row) for row in self._database.rows(_ON)]

    def all(self, kind: str) -> list[Layer]:
        """Those of a kind, the newest first."""
        return [layer for row in self._database.rows(_NEWEST_FIRST) if (layer := _layer(row)).kind == kind]

    def named(self, name: str, kind: str | None = None) -> Layer:
        """The layer of that name.

        Raises:
            TaskError: If there is none, or it is of another kind.
        """
        rows = self._database.rows(_OF_NAME, called=name)
        found = _layer(rows[0]) if rows else None
        if found is None or kind not in (None, found.kind):
            raise TaskError(f"there is no {kind or 'layer'} {name!r}")
        return found

    def numbered(self, number: int) -> Layer | None:
        """The layer of that number; None if there is none."""
        rows = self._database.rows(_OF_NUMBER, of=number)
        return _layer(rows[0]) if rows else None

    def changes(self, layer: Layer) -> list[dict[str, Any]]:
        """What became of it: ``at_s``, ``state``, ``stage``, ``reason``, in order."""
        names = ("at_s", "state", "stage", "reason")
        return [dict(zip(names, row, strict=True)) for row in self._database.rows(_CHANGES, of=layer.number)]

    def revision(self) -> int:
        """Rises with every change of any layer."""
        return self._database.rows(_LAST_CHANGE)[0][0] or 0

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _note(self, connection: Any, number: int, progress: Progress) -> None:
        change = {"number": number, "at_s": self._clock(), **vars(progress)}
        connection.execute(plain_insert(LAYER_CHANGE), {key: change[key] for key in change if key != "since_s"})


def _layer(row: tuple[Any, ...]) -> Layer:
    values: Mapping[str, Any] = dict(zip(LAYER.columns.keys(), row, strict=True))
    plain, kind = values["plan"], values["kind"]
    try:
        plan = Plan.from_dict(plain) if kind == ROLLOUT else None
        cohort, arms = Cohort.from_dict(values["cohort"]), tuple(Arm.from_dict(arm) for arm in values["arms"])
    except (KeyError, TypeError) as error:
        raise StorageError(f"{kind} {values['name']!r} cannot be read: {error}") from error
    progress = Progress(values["state"], values["stage"], values["since_s"], values["reason"])
    return Layer(values["number"], values["name"], kind, cohort, arms, plan, plain.get("least_devices", 0), progress)
