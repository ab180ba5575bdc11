"""What devices said of the tasks that they did, counted by where the task came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, func, select

from cloud_broker.storage.database import SharedDatabase, keep, replace
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import ASSIGNMENT
from cloud_broker.storage.task_tables import STANDING, TASK_ORIGIN
from cloud_broker.tasks.layers import EVERYONE
from cloud_broker.tasks.staging import Told
from profiling.record import ABANDONED, ACTIVATED, KEPT_H0
from protocol.messages import Report

FAILED, REFUSED, SERVED, OTHER = "failed", "refused", "served", "other"
_VERDICTS = {ABANDONED: FAILED, KEPT_H0: REFUSED, ACTIVATED: SERVED}

# Versions only rise: a device that has an older one now was never given that which it reports on.
_LABEL = (
    select(TASK_ORIGIN.c.label)
    .join(ASSIGNMENT, ASSIGNMENT.c.version >= TASK_ORIGIN.c.version)
    .where(TASK_ORIGIN.c.version == bindparam("of"), ASSIGNMENT.c.device == bindparam("whose"))
)
_COUNTS = (
    select(STANDING.c.verdict, func.count()).where(STANDING.c.label == bindparam("of")).group_by(STANDING.c.verdict)
)
_FRESH = (
    select(func.count())
    .select_from(STANDING)
    .where(STANDING.c.label == bindparam("of"), STANDING.c.received_s > bindparam("since_s"))
)
_FIRST, _LAST = keep(STANDING), replace(STANDING)


def verdict_of(record: Mapping[str, Any]) -> str:
    """What a round's record says, in one word; `OTHER` where its gate had nothing to judge."""
    outcome = record.get("outcome")
    decision = outcome.get("decision") if isinstance(outcome, Mapping) else None
    return verdict_of_decision(decision) if isinstance(decision, str) else OTHER


def verdict_of_decision(decision: str) -> str:
    """The same of an outcome's decision."""
    return _VERDICTS.get(decision, OTHER)


class Standings:
    """One verdict a device and label; safe to use from several threads, and beside other processes."""

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open them.

        Raises:
            StorageError: If the database cannot be used.
        """
        self._database = SharedDatabase(where)
        self._clock = clock

    def note(self, device: str, report: Report) -> None:
        """Count a report; a second time it changes nothing.

        Of a rollout's or an arm's task the first report of a device counts, so that each device is one independent
        observation; of everyone's task the last, which is how the fleet is now. A report on a task that the device was
        not given counts for nothing.
        """
        labels = self._database.rows(_LABEL, of=report.task_version, whose=device)
        if not labels:
            return
        label = labels[0][0]
        values = {
            "label": label, "device": device, "verdict": verdict_of(report.record), "received_s": self._clock(),
        }  # fmt: skip
        with self._database.transaction() as connection:
            connection.execute(_LAST if label == EVERYONE else _FIRST, values)

    def told(self, label: str) -> Told:
        """What devices said of a label's task so far."""
        counts = dict(self._database.rows(_COUNTS, of=label))
        failed, refused, served = (counts.get(verdict, 0) for verdict in (FAILED, REFUSED, SERVED))
        return Told(sum(counts.values()), failed, refused + served, refused)

    def fresh(self, label: str, since_s: float) -> int:
        """Devices of a label that reported after a moment, Unix time."""
        return int(self._database.rows(_FRESH, of=label, since_s=since_s)[0][0])

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()
