"""Which task each device has: the broker retains it for a device that is away, this outlives the broker's memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sqlalchemy import bindparam, select

from cloud_broker.storage.database import SharedDatabase, keep, replace
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import ASSIGNMENT, TASK
from protocol import envelope
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import TableRows
from protocol.schema import FeatureSchema

_NEWEST = select(TASK.c.payload).order_by(TASK.c.version.desc()).limit(1)
_HAS = select(ASSIGNMENT.c.version).where(ASSIGNMENT.c.device == bindparam("device"))
_ASSIGNED = (
    select(ASSIGNMENT.c.device, TASK.c.payload)
    .join(TASK, TASK.c.version == ASSIGNMENT.c.version)
    .order_by(ASSIGNMENT.c.device)
)
_ADD, _ASSIGN = keep(TASK), replace(ASSIGNMENT)


class TaskBook:
    """Tasks by version and who has which; safe to use from several threads."""

    def __init__(self, where: Place | Path) -> None:
        """Open the book, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)

    def make_current(
        self,
        features: FeatureSchema,
        recipe: Recipe,
        recommender: BlobRef,
        classifier: BlobRef,
        rows: TableRows | None = None,
    ) -> Task:
        """The task of that content, current from now on: a new version, unless the current one says the same.

        Args:
            features: The schema of samples.
            recipe: Hyper-parameters.
            recommender: h0's file.
            classifier: The sample classifier's file.
            rows: The table of which h0's file holds no rows.
        """
        current = self.current()
        version = 1 if current is None else current.version
        task = Task(version, features.to_dict(), recipe.to_dict(), recommender, classifier, rows)
        if current is not None and _payload(task) == _payload(current):
            return current
        if current is not None:
            task = dataclasses.replace(task, version=current.version + 1)
        with self._database.transaction() as database:
            added = database.execute(_ADD, {"version": task.version, "payload": _payload(task)}).rowcount
        # Another process was quicker with that version: what it says counts, or is superseded.
        return task if added else self.make_current(features, recipe, recommender, classifier, rows)

    def current(self) -> Task | None:
        """The newest task; None before the first."""
        rows = self._database.rows(_NEWEST)
        return _task(rows[0][0]) if rows else None

    def assign(self, device: str) -> Task | None:
        """Give a device the current task.

        Returns:
            The task if the device did not have it yet, else None.
        """
        task = self.current()
        if task is None or self._database.rows(_HAS, device=device) == [(task.version,)]:
            return None
        with self._database.transaction() as database:
            database.execute(_ASSIGN, {"device": device, "version": task.version})
        return task

    def assigned(self) -> dict[str, Task]:
        """The task that each device has."""
        return {device: _task(payload) for device, payload in self._database.rows(_ASSIGNED)}

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _payload(task: Task) -> bytes:
    return envelope.encode(task, f"task-{task.version}")


def _task(payload: bytes) -> Task:
    task = envelope.decode("down", Task.kind, payload).message
    assert isinstance(task, Task)
    return task
