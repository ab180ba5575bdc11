"""Rounds on disk: where each stands, what its phases gave and cost, and which model is served."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Cursor

from edge.errors import ForgottenError
from edge.learning.recommender import Personal
from edge.storage.arrays import pack_arrays, pack_rows, unpack_arrays, unpack_rows
from edge.storage.database import Database
from profiling import record as decisions
from profiling.errors import RecordError
from profiling.record import PhaseRecord, RoundRecord
from protocol.envelope import decode, encode
from protocol.errors import ProtocolError, SchemaMismatchError
from protocol.messages import Task

MAX_ROUNDS_KEPT = 100
DONE = "done"
ABANDONED = decisions.ABANDONED  # as a state, and as what the record says


@dataclass(frozen=True)
class StoredRound:
    """A round that has begun.

    Attributes:
        round_id: Its name, the same after any restart.
        task: What was asked for, as it was when the round began.
        state: The phase to do next.
        attempts: How often that phase was begun.
        started_unix_s: Wall clock at the round's begin.
    """

    round_id: str
    task: Task
    state: str
    attempts: int
    started_unix_s: float


@dataclass(frozen=True)
class Serving:
    """The model that is served.

    Attributes:
        model_sha256: h0's file.
        round_id: The round that decided it.
        personal: The personal model over h0; None where h0 itself is served.
    """

    model_sha256: str
    round_id: str
    personal: Personal | None


class RoundStore:
    """At most one unfinished round, and the latest finished ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, task: Task, first_state: str) -> StoredRound:
        """Start a round for a task."""
        round_id, now_s = uuid.uuid4().hex, time.time()
        with self._database.transaction() as rows:
            rows.execute(
                "INSERT INTO rounds (round_id, task_version, task, state, started_unix_s) VALUES (?, ?, ?, ?, ?)",
                (round_id, task.version, encode(task, round_id), first_state, now_s),
            )
            rows.execute(
                "DELETE FROM rounds WHERE round_id NOT IN (SELECT round_id FROM rounds ORDER BY rowid DESC LIMIT ?)"
                " AND round_id NOT IN (SELECT round_id FROM serving)", (MAX_ROUNDS_KEPT,),
            )  # fmt: skip
        return StoredRound(round_id, task, first_state, 0, now_s)

    def unfinished(self) -> StoredRound | None:
        """The round to continue, if there is one; one that an older program began is closed instead."""
        query = "SELECT round_id, task, state, attempts, started_unix_s FROM rounds WHERE state NOT IN (?, ?)"
        for round_id, payload, state, attempts, started_unix_s in self._database.rows(query, DONE, ABANDONED):
            try:
                task = decode("down", Task.kind, payload).message
            except SchemaMismatchError:
                self.close(round_id, ABANDONED)
                continue
            assert isinstance(task, Task)
            return StoredRound(round_id, task, state, attempts, started_unix_s)
        return None

    def unfinished_id(self) -> str | None:
        """The id of the round to continue, whatever state its task is in; None for none."""
        found = self._database.rows("SELECT round_id FROM rounds WHERE state NOT IN (?, ?)", DONE, ABANDONED)
        return str(found[0][0]) if found else None

    def count_attempt(self, round_id: str) -> int:
        """Note that the present phase is begun (again); the number of times so far."""
        with self._database.transaction() as rows:
            _check_there(rows.execute("UPDATE rounds SET attempts = attempts + 1 WHERE round_id = ?", (round_id,)))
            return int(rows.execute("SELECT attempts FROM rounds WHERE round_id = ?", (round_id,)).fetchone()[0])

    def save(self, round_id: str, name: str, value: bytes) -> None:
        """Keep something that a phase gave."""
        query = "INSERT OR REPLACE INTO artefacts SELECT round_id, ?, ? FROM rounds WHERE round_id = ?"
        with self._database.transaction() as rows:
            _check_there(rows.execute(query, (name, value, round_id)))

    def load(self, round_id: str, name: str) -> bytes | None:
        """What a phase gave, if it was kept."""
        found = self._database.rows("SELECT value FROM artefacts WHERE round_id = ? AND name = ?", round_id, name)
        return bytes(found[0][0]) if found else None

    def advance(self, round_id: str, state: str, phases: Iterable[PhaseRecord]) -> None:
        """A phase ended in good order: keep what it cost and say which is next, itself if it is to be done again."""
        with self._database.transaction() as rows:
            query = "UPDATE rounds SET state = ?, attempts = 0 WHERE round_id = ?"
            _check_there(rows.execute(query, (state, round_id)))
            rows.executemany(
                "INSERT INTO phases (round_id, record) VALUES (?, ?)",
                [(round_id, json.dumps(phase.to_dict())) for phase in phases],
            )

    def phases(self, round_id: str) -> tuple[PhaseRecord, ...]:
        """What the finished phases cost, in order, those before a restart included."""
        found = self._database.rows("SELECT record FROM phases WHERE round_id = ? ORDER BY id", round_id)
        return tuple(PhaseRecord.from_dict(json.loads(record)) for (record,) in found)

    def close(self, round_id: str, state: str, record: RoundRecord | None = None) -> None:
        """End a round and forget what its phases gave."""
        text = None if record is None else json.dumps(record.to_dict())
        with self._database.transaction() as rows:
            rows.execute("UPDATE rounds SET state = ?, record = ? WHERE round_id = ?", (state, text, round_id))
            for table in ("artefacts", "phases"):
                rows.execute(f"DELETE FROM {table} WHERE round_id = ?", (round_id,))  # noqa: S608 - two fixed names

    def records(self) -> list[RoundRecord]:
        """Records of the finished rounds that are kept, oldest first; another version's may be left out."""
        found = self._database.rows("SELECT record FROM rounds WHERE record IS NOT NULL ORDER BY rowid")
        return [record for (text,) in found if (record := _record(text)) is not None]

    def last_version(self) -> int | None:
        """The highest task version that a round was ended for; None where there was none."""
        query = "SELECT max(task_version) FROM rounds WHERE state IN (?, ?)"
        version: int | None = self._database.rows(query, DONE, ABANDONED)[0][0]
        return version

    def served_task(self) -> Task | None:
        """The task of the model that is served; else the newest one; None before the first round."""
        query = "SELECT task FROM rounds ORDER BY round_id = (SELECT round_id FROM serving) DESC, rowid DESC LIMIT 1"
        for (payload,) in self._database.rows(query):
            try:
                task = decode("down", Task.kind, payload).message
            except SchemaMismatchError:  # an older program's
                return None
            assert isinstance(task, Task)
            return task
        return None

    def models(self) -> set[str]:
        """Digests of the model files that are of use: the served model's, and those of its task."""
        found = self._database.rows("SELECT model_sha256 FROM serving")
        try:
            task = self.served_task()
        except ProtocolError:  # damaged: what it named is pulled again
            task = None
        theirs = set() if task is None else {task.recommender.sha256, task.classifier.sha256}
        return theirs | {str(sha256) for (sha256,) in found}

    def serve(self, model_sha256: str, round_id: str, personal: Personal | None) -> None:
        """Serve a personal model over h0, or h0 itself."""
        weights = None if personal is None else pack_arrays(personal.weights)
        block = None if personal is None or personal.rows is None else pack_rows(personal.rows)
        with self._database.transaction() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO serving VALUES (1, ?, ?, ?, ?, ?)",
                (model_sha256, round_id, time.time(), weights, block),
            )

    def serving(self) -> Serving | None:
        """The model that is served; None before the first round."""
        found = self._database.rows("SELECT model_sha256, round_id, weights, rows FROM serving")
        if not found:
            return None
        model_sha256, round_id, weights, block = found[0]
        if weights is None:
            return Serving(model_sha256, round_id, None)
        rows = None if block is None else unpack_rows(block)
        return Serving(model_sha256, round_id, Personal(unpack_arrays(weights), rows))


def _record(text: str) -> RoundRecord | None:
    try:
        return RoundRecord.from_dict(json.loads(text))
    except (RecordError, ValueError):  # of a version that says more or less of a round, or damaged
        return None


def _check_there(cursor: Cursor) -> None:
    """A round that is no longer on disk was forgotten with its user."""
    if cursor.rowcount == 0:
        raise ForgottenError("the device's user was forgotten while this round went on")
