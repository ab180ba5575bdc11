"""Rounds as devices reported them: when, of which task, with what outcome and at what cost.

A report is whatever a device sent; a number that is none, absurdly large or not there is None here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, select

from cloud_broker.storage.database import SharedDatabase
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import REPORT
from cloud_broker.storage.task_tables import TASK_ORIGIN
from profiling.record import ACTIVATED
from protocol.fleet_gain import RANKING_GAIN

_MOST = 1e12  # of any measure; what a device says beyond is none, and the sums of many such would be infinite
_COLUMNS = (REPORT.c.device, REPORT.c.received_s, REPORT.c.round_id, REPORT.c.task_version, REPORT.c.record)
_OF_DEVICE = (
    select(*_COLUMNS)
    .where(REPORT.c.device == bindparam("whose"))
    .order_by(REPORT.c.received_s.desc())
    .limit(bindparam("most"))
)
_OF_LABEL = (
    select(*_COLUMNS)
    .join(TASK_ORIGIN, TASK_ORIGIN.c.version == REPORT.c.task_version)
    .where(TASK_ORIGIN.c.label == bindparam("from_"))
    .order_by(REPORT.c.received_s, REPORT.c.device)
)


@dataclass(frozen=True, kw_only=True)
class ReportedRound:
    """A round.

    Attributes:
        device: Whose.
        received_s: Unix time at which its report came.
        round_id: The device's name for it.
        task_version: Of the task that was done.
        decision: As `profiling.record.Outcome`; empty where the report says none.
        reason: Why.
        ranking_gain: Fall of the hold-out's ranking loss, nats, whether the personal model is served or not.
        log_loss_gain: Fall of its log-loss, nats.
        log_loss: The hold-out's log-loss by the model that is served.
        elapsed_s: Of all phases.
        mqtt_bytes: Sent and received.
        energy_j: Of the round.
        energy_reason: Why ``energy_j`` is None.
    """

    device: str
    received_s: float
    round_id: str
    task_version: int
    decision: str
    reason: str
    ranking_gain: float | None
    log_loss_gain: float | None
    log_loss: float | None
    elapsed_s: float | None
    mqtt_bytes: float | None
    energy_j: float | None
    energy_reason: str | None


class RoundHistory:
    """Reports, read; safe to use from several threads."""

    def __init__(self, where: Place | Path) -> None:
        """Open it.

        Raises:
            StorageError: If the database cannot be used.
        """
        self._database = SharedDatabase(where)

    def of_device(self, device: str, most: int) -> list[ReportedRound]:
        """A device's rounds, the last first."""
        return [_reported(*row) for row in self._database.rows(_OF_DEVICE, whose=device, most=most)]

    def of_label(self, label: str) -> list[ReportedRound]:
        """Rounds of tasks of one label, see `cloud_broker.tasks.layers`, as they came."""
        return [_reported(*row) for row in self._database.rows(_OF_LABEL, from_=label)]

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _reported(device: str, received_s: float, round_id: str, task_version: int, record: Any) -> ReportedRound:
    outcome, totals = _map(record, "outcome"), _map(record, "totals")
    metrics, decision = _map(outcome, "metrics"), _text(outcome, "decision")
    before, after = (_number(metrics, f"holdout_log_loss_{model}") for model in ("h0", "personal"))
    energy_mj = _number(totals, "energy_mj")
    return ReportedRound(
        device=device,
        received_s=received_s,
        round_id=round_id,
        task_version=task_version,
        decision=decision,
        reason=_text(outcome, "reason"),
        ranking_gain=_number(metrics, RANKING_GAIN),
        log_loss_gain=None if before is None or after is None else before - after,
        log_loss=after if decision == ACTIVATED else before,
        elapsed_s=_number(totals, "elapsed_s"),
        mqtt_bytes=_sum(totals, "mqtt_up_bytes", "mqtt_down_bytes"),
        energy_j=None if energy_mj is None else energy_mj / 1e3,
        energy_reason=None if energy_mj is not None else _text(_map(record, "unmeasured"), "energy") or "not reported",
    )


def _map(values: Any, name: str) -> Mapping[str, Any]:
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    found = values.get(name)
    return found if isinstance(found, str) else ""


def _number(values: Mapping[str, Any], name: str) -> float | None:
    found = values.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) <= _MOST:
        return None
    return float(found)


def _sum(values: Mapping[str, Any], *names: str) -> float | None:
    found = [_number(values, name) for name in names]
    return None if None in found else math.fsum(number for number in found if number is not None)
