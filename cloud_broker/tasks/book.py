"""Which task each device has: the broker retains it for a device that is away, this outlives the broker's memory.

There is one task of everyone, and layers over it (`cloud_broker.tasks.layers`). A device has the task of the newest
layer that it is in, else everyone's. A device does a version once and never an older one, so whoever gets a task
back that it had before gets it under a new version.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sqlalchemy import bindparam, func, select

from cloud_broker.storage.database import SharedDatabase, insert, keep
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import ASSIGNMENT, DEVICE, TASK
from cloud_broker.storage.task_tables import TASK_ORIGIN
from cloud_broker.tasks.content import NO_VERSION, composed, digest_of, payload_of, task_of, will_do
from cloud_broker.tasks.layers import EVERYONE, Layer, Layers, laid_over
from cloud_broker.tasks.overrides import Overrides
from cloud_broker.tasks.standings import Standings
from cloud_broker.tasks.tags import Tags
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import TableRows
from protocol.schema import FeatureSchema

_OF_EVERYONE = (
    select(TASK.c.payload)
    .join(TASK_ORIGIN, TASK_ORIGIN.c.version == TASK.c.version)
    .where(TASK_ORIGIN.c.label == EVERYONE)
    .order_by(TASK.c.version.desc())
    .limit(1)
)
_WITHOUT_ORIGIN = (
    select(TASK.c.payload)
    .outerjoin(TASK_ORIGIN, TASK_ORIGIN.c.version == TASK.c.version)
    .where(TASK_ORIGIN.c.version.is_(None))
)
_LATEST_ALIKE = select(func.max(TASK_ORIGIN.c.version)).where(
    TASK_ORIGIN.c.label == bindparam("from_"), TASK_ORIGIN.c.digest == bindparam("alike")
)
_LAST = select(func.max(TASK.c.version))
_PAYLOAD = select(TASK.c.payload).where(TASK.c.version == bindparam("of"))
_ASSIGNED = select(ASSIGNMENT.c.device, ASSIGNMENT.c.version).order_by(ASSIGNMENT.c.device)
_HELD = select(ASSIGNMENT.c.version).where(ASSIGNMENT.c.device == bindparam("whose"))
_MEMBERS = (
    select(func.count())
    .select_from(ASSIGNMENT)
    .join(TASK_ORIGIN, TASK_ORIGIN.c.version == ASSIGNMENT.c.version)
    .where(TASK_ORIGIN.c.label == bindparam("from_"))
)
_ORIGIN = select(TASK_ORIGIN.c.label, TASK_ORIGIN.c.digest).where(TASK_ORIGIN.c.version == bindparam("of"))
_HELLOS = select(DEVICE.c.name, DEVICE.c.hello)
_ADD, _ADD_ORIGIN = keep(TASK), keep(TASK_ORIGIN)
_GIVE = insert(ASSIGNMENT)
# Only ever a newer version: whoever decided by what is no longer so comes too late.
_GIVE = _GIVE.on_conflict_do_update(
    index_elements=[ASSIGNMENT.c.device],
    set_={"version": _GIVE.excluded.version},
    where=ASSIGNMENT.c.version < _GIVE.excluded.version,
)
_HOLDING = (
    select(ASSIGNMENT.c.device)
    .where(ASSIGNMENT.c.version == bindparam("of"), ASSIGNMENT.c.device.in_(bindparam("among", expanding=True)))
    .order_by(ASSIGNMENT.c.device)
)
_AT_ONCE = 1000  # devices a transaction


class TaskBook:
    """Tasks by version and who has which; safe to use from several threads, and beside other processes.

    Attributes:
        layers: Rollouts and experiments.
        tags: Of devices.
        standings: What devices said of their tasks.
    """

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the book, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)
        self.layers = Layers(where, clock=clock)
        self.tags = Tags(where)
        self.standings = Standings(where, clock=clock)
        for (payload,) in self._database.rows(_WITHOUT_ORIGIN):  # from before there were layers
            self._add(EVERYONE, task_of(payload))

    def make_current(
        self,
        features: FeatureSchema,
        recipe: Recipe,
        recommender: BlobRef,
        classifier: BlobRef,
        rows: TableRows | None = None,
    ) -> Task:
        """The task of that content, everyone's from now on: a new version, unless the present one says the same.

        Args:
            features: The schema of samples.
            recipe: Hyper-parameters.
            recommender: h0's file.
            classifier: The sample classifier's file.
            rows: The table of which h0's file holds no rows.
        """
        current = self.current()
        task = Task(NO_VERSION, features.to_dict(), recipe.to_dict(), recommender, classifier, rows)
        if current is not None and digest_of(task) == digest_of(current):
            return current
        return self._new(EVERYONE, task)

    def current(self) -> Task | None:
        """The task of everyone; None before the first."""
        rows = self._database.rows(_OF_EVERYONE)
        return task_of(rows[0][0]) if rows else None

    def assign(self, device: str, board: str = "") -> Task | None:
        """Give a device the task that is for it.

        Args:
            device: Its name.
            board: Its board; empty where that is not known.

        Returns:
            The task if the device did not have it yet, else None.
        """
        base = self.current()
        if base is None:
            return None
        label, overrides = laid_over(self.layers.on(), device, board, self.tags.of(device))
        held = self._database.rows(_HELD, whose=device)
        given = self._give(*composed(base, label, overrides), {device: held[0][0] if held else NO_VERSION})
        return given[0][1] if given else None

    def reassign(self, devices: Iterable[str] = ()) -> list[tuple[str, Task]]:
        """Give every device the task that is for it now.

        Args:
            devices: Also these, which have none yet.

        Returns:
            Who has which newly.
        """
        base, layers = self.current(), self.layers.on()
        if base is None:
            return []
        held = {**dict.fromkeys(devices, NO_VERSION), **self.held()}
        boards, tags = self._boards() if layers else {}, self.tags.all() if layers else {}
        groups: dict[str, tuple[Overrides, dict[str, int]]] = {}
        for device, version in held.items():
            label, overrides = laid_over(layers, device, boards.get(device, ""), tags.get(device, ()))
            groups.setdefault(label, (overrides, {}))[1][device] = version
        return [
            one
            for label, (overrides, who) in sorted(groups.items())
            for one in self._give(*composed(base, label, overrides), who)
        ]

    def assigned(self) -> dict[str, Task]:
        """The task that each device has."""
        held = self.held()
        tasks = {version: self.version(version) for version in set(held.values())}
        return {device: task for device, version in held.items() if (task := tasks[version]) is not None}

    def held(self) -> dict[str, int]:
        """The version that each device has."""
        return dict(self._database.rows(_ASSIGNED))

    def in_arms(self, layer: Layer) -> dict[str, int]:
        """Devices that have a task and fit a layer, by the name of the arm that is theirs."""
        boards, tags = self._boards(), self.tags.all()
        arms = [
            layer.arm_for(device).name
            for device in self.held()
            if layer.has(device, boards.get(device, ""), tags.get(device, ()))
        ]
        return {arm.name: arms.count(arm.name) for arm in layer.arms}

    def version(self, version: int) -> Task | None:
        """The task of a version; None if there is none."""
        rows = self._database.rows(_PAYLOAD, of=version)
        return task_of(rows[0][0]) if rows else None

    def label_of(self, version: int) -> str | None:
        """Where a version came from; None if there is none."""
        origin = self._origin(version)
        return None if origin is None else origin[0]

    def members(self, label: str) -> int:
        """Devices that have a task of that label."""
        return int(self._database.rows(_MEMBERS, from_=label)[0][0])

    def close(self) -> None:
        """Let go of the database."""
        for part in (self.layers, self.tags, self.standings, self._database):
            part.close()

    def _give(self, label: str, task: Task, held: Mapping[str, int]) -> list[tuple[str, Task]]:
        """Give devices, which hold these versions, a task under a version that is newer than any of them."""
        digest = digest_of(task)
        known = {version: self._origin(version) for version in set(held.values())}
        wanting = [device for device, version in held.items() if not will_do(known[version], label, digest)]
        if not wanting:
            return []
        above = max(held[device] for device in wanting)
        found = self._database.rows(_LATEST_ALIKE, from_=label, alike=digest)[0][0] or 0
        given = dataclasses.replace(task, version=found) if found > above else self._new(label, task)
        done: list[str] = []
        for begin in range(0, len(wanting), _AT_ONCE):
            devices = wanting[begin : begin + _AT_ONCE]
            with self._database.transaction() as connection:
                connection.execute(_GIVE, [{"device": device, "version": given.version} for device in devices])
                done += connection.scalars(_HOLDING, {"of": given.version, "among": devices})
        return [(device, given) for device in done]

    def _new(self, label: str, task: Task) -> Task:
        while True:
            version = (self._database.rows(_LAST)[0][0] or 0) + 1
            if self._add(label, made := dataclasses.replace(task, version=version)):
                return made

    def _add(self, label: str, task: Task) -> bool:
        """Note a version and where it comes from; False if another process was quicker with that version."""
        origin = {"version": task.version, "label": label, "digest": digest_of(task)}
        with self._database.transaction() as connection:
            added = connection.execute(_ADD, {"version": task.version, "payload": payload_of(task)}).rowcount == 1
            if added or not connection.execute(_ORIGIN, {"of": task.version}).all():
                connection.execute(_ADD_ORIGIN, origin)
        return added

    def _origin(self, version: int) -> tuple[str, str] | None:
        """Label and digest of a version."""
        rows = self._database.rows(_ORIGIN, of=version)
        return (rows[0][0], rows[0][1]) if rows else None

    def _boards(self) -> dict[str, str]:
        return {name: str(hello["board"]) for name, hello in self._database.rows(_HELLOS) if hello}
