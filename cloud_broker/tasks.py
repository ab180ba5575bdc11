"""Which task each device has: the broker retains it for a device that is away, this outlives the broker's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloud_broker.database import Database
from protocol import envelope
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from protocol.rows import TableRows
from protocol.schema import FeatureSchema

_TABLES = """
CREATE TABLE IF NOT EXISTS task (version INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS assignment (device TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
"""


class TaskBook:
    """Tasks by version and who has which; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        """Open the book under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = Database(directory / "tasks.sqlite", _TABLES)

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
            task = replace(task, version=current.version + 1)
        with self._database.transaction() as database:
            database.execute("INSERT INTO task VALUES (?, ?)", (task.version, _payload(task)))
        return task

    def current(self) -> Task | None:
        """The newest task; None before the first."""
        rows = self._database.rows("SELECT payload FROM task ORDER BY version DESC LIMIT 1")
        return _task(rows[0][0]) if rows else None

    def assign(self, device: str) -> Task | None:
        """Give a device the current task.

        Returns:
            The task if the device did not have it yet, else None.
        """
        task = self.current()
        if task is None or self._database.rows(
            "SELECT 1 FROM assignment WHERE device = ? AND version = ?", device, task.version
        ):
            return None
        with self._database.transaction() as database:
            database.execute("INSERT OR REPLACE INTO assignment VALUES (?, ?)", (device, task.version))
        return task

    def assigned(self) -> dict[str, Task]:
        """The task that each device has."""
        query = "SELECT device, payload FROM assignment JOIN task USING (version) ORDER BY device"
        return {device: _task(payload) for device, payload in self._database.rows(query)}

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _payload(task: Task) -> bytes:
    return envelope.encode(task, f"task-{task.version}")


def _task(payload: bytes) -> Task:
    task = envelope.decode("down", Task.kind, payload).message
    assert isinstance(task, Task)
    return task
