"""What the cloud knows of its devices: presence and what they hold, and their reports."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, select

from cloud_broker.releases.rollouts import Rollouts
from cloud_broker.storage.collecting import Collecting
from cloud_broker.storage.database import SharedDatabase, keep, replace
from cloud_broker.storage.logs import Logs
from cloud_broker.storage.place import Place
from cloud_broker.storage.plain import PlainSql
from cloud_broker.storage.tables import DEVICE, REPORT
from cloud_broker.tasks.fleet_gains import gain_from
from profiling.data_use import DataUse
from protocol.errors import MalformedMessageError
from protocol.fleet_gain import RANKING_GAIN, RANKING_GAIN_ERROR, ReportedGain
from protocol.messages import Hello, Report

_MOST_VERSION = (1 << 63) - 1  # that a database holds

_NOTE_PRESENCE, _NOTE_HELLO = replace(DEVICE, "seen_s", "online"), replace(DEVICE, "seen_s", "hello")
_DEVICES = select(DEVICE).order_by(DEVICE.c.name)
_ADD_REPORT = keep(REPORT)
_REPORTS = select(REPORT.c.device, REPORT.c.record).order_by(REPORT.c.received_s, REPORT.c.device)


def _of_record(*path: str) -> ColumnElement[Any]:
    return REPORT.c.record[path]


_SAMPLES = _of_record("outcome", "samples_local")
_GAIN, _ERROR = (_of_record("outcome", "metrics", name) for name in (RANKING_GAIN, RANKING_GAIN_ERROR))
_LAST_FIRST = func.row_number().over(partition_by=REPORT.c.device, order_by=REPORT.c.received_s.desc()).label("place")
_TOLD_GAINS = (
    select(REPORT.c.device, _SAMPLES.label("samples"), _GAIN.label("gain"), _ERROR.label("error"), _LAST_FIRST)
    .where(_GAIN.as_string().is_not(None))
    .subquery()
)
_GAINS = (
    select(_TOLD_GAINS.c.samples, _TOLD_GAINS.c.gain, _TOLD_GAINS.c.error)
    .where(_TOLD_GAINS.c.place == 1)
    .order_by(_TOLD_GAINS.c.device)
)


class Ledger:
    """Safe to use from several threads.

    Attributes:
        data_use: What workers sent and received; an account is a worker.
        collecting: Letters that devices offered.
        logs: Devices' logs, and who asked for them.
        rollouts: Releases that devices are offered, and what came of them.
    """

    def __init__(self, where: Place | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the ledger, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = SharedDatabase(where)
        self._clock = clock
        self.data_use = DataUse(PlainSql(self._database), clock)
        self.collecting = Collecting(where, clock=clock)
        self.logs = Logs(where, clock=clock)
        self.rollouts = Rollouts(where, clock=clock)

    def note_presence(self, device: str, *, online: bool) -> None:
        """Remember that a device came or went."""
        with self._database.transaction() as database:
            database.execute(_NOTE_PRESENCE, {"name": device, "seen_s": self._clock(), "online": online})

    def note_hello(self, device: str, hello: Hello) -> None:
        """Remember what a device is and holds."""
        told = {"software": hello.software, "runtime": hello.runtime, "board": hello.board, "models": hello.models}
        with self._database.transaction() as database:
            database.execute(_NOTE_HELLO, {"name": device, "seen_s": self._clock(), "hello": told})

    def devices(self) -> dict[str, dict[str, Any]]:
        """Of each device: ``seen_s``, ``online`` (None if it never said) and what its last hello said."""
        return {
            name: {"seen_s": seen_s, "online": online, **(hello or {})}
            for name, seen_s, online, hello in self._database.rows(_DEVICES)
        }

    def boards(self) -> dict[str, str]:
        """The board of each device that ever said hello."""
        return {name: str(told["board"]) for name, told in self.devices().items() if "board" in told}

    def add_report(self, device: str, report: Report, message_id: str) -> bool:
        """Store a round's record; False if this message was stored before.

        Raises:
            MalformedMessageError: If the record holds what JSON cannot, such as bytes or a number that is not finite,
                or no task can have that version.
        """
        try:
            text = json.dumps(report.record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MalformedMessageError(f"report: the record is not JSON ({error})") from error
        if "\\u0000" in text:  # PostgreSQL would keep it, and then fail to look into any record
            raise MalformedMessageError("report: the record holds a NUL character")
        if not 0 <= report.task_version <= _MOST_VERSION:
            raise MalformedMessageError(f"report: there is no task {report.task_version}")
        row = {
            "device": device,
            "message_id": message_id,
            "received_s": self._clock(),
            "round_id": report.round_id,
            "task_version": report.task_version,
            "record": report.record,
        }
        with self._database.transaction() as database:
            return database.execute(_ADD_REPORT, row).rowcount == 1

    def reports(self, device: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Device and record of every report, or of one device's, in the order they came."""
        query = _REPORTS if device is None else _REPORTS.where(REPORT.c.device == device)
        return [(name, record) for name, record in self._database.rows(query)]

    def gains(self) -> list[ReportedGain]:
        """What personalising gained on each device's hold-out, by the last of its reports that say so."""
        found = (gain_from(*values) for values in self._database.rows(_GAINS))
        return [gain for gain in found if gain is not None]

    def close(self) -> None:
        """Close the databases."""
        self.collecting.close()
        self.logs.close()
        self.rollouts.close()
        self._database.close()
