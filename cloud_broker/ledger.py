"""What the cloud knows of its devices: presence and what they hold, and their reports."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud_broker.collecting import Collecting
from cloud_broker.database import Database
from cloud_broker.fleet_gains import gain_from
from cloud_broker.logs import Logs
from cloud_broker.rollouts import Rollouts
from profiling.data_use import TABLE as DATA_USE_TABLE
from profiling.data_use import DataUse
from protocol.errors import MalformedMessageError
from protocol.fleet_gain import RANKING_GAIN, RANKING_GAIN_ERROR, ReportedGain
from protocol.messages import Hello, Report

_TABLES = f"""
CREATE TABLE IF NOT EXISTS device (
    name TEXT PRIMARY KEY, seen_s REAL NOT NULL, online INTEGER, hello TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (
    device TEXT NOT NULL, message_id TEXT NOT NULL, received_s REAL NOT NULL, round_id TEXT NOT NULL,
    task_version INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (device, message_id)
) WITHOUT ROWID;
DROP TABLE IF EXISTS answer;
DROP TABLE IF EXISTS answer_source;
{DATA_USE_TABLE}
"""


class Ledger:
    """One SQLite file; safe to use from several threads.

    Attributes:
        data_use: What workers sent and received; an account is a worker.
        collecting: Letters that devices offered.
        logs: Devices' logs, and who asked for them.
        rollouts: Releases that devices are offered, and what came of them.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the ledger under ``directory``, or create it.

        Raises:
            StorageError: If what is there cannot be used.
        """
        self._database = Database(directory / "ledger.sqlite", _TABLES)
        self._clock = clock
        self.data_use = DataUse(self._database, clock)
        self.collecting = Collecting(directory, clock=clock)
        self.logs = Logs(directory, clock=clock)
        self.rollouts = Rollouts(directory, clock=clock)

    def note_presence(self, device: str, *, online: bool) -> None:
        """Remember that a device came or went."""
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO device (name, seen_s, online) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET seen_s = excluded.seen_s, online = excluded.online",
                (device, self._clock(), online),
            )

    def note_hello(self, device: str, hello: Hello) -> None:
        """Remember what a device is and holds."""
        text = json.dumps(
            {"software": hello.software, "runtime": hello.runtime, "board": hello.board, "models": hello.models}
        )
        with self._database.transaction() as database:
            database.execute(
                "INSERT INTO device (name, seen_s, hello) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET seen_s = excluded.seen_s, hello = excluded.hello",
                (device, self._clock(), text),
            )

    def devices(self) -> dict[str, dict[str, Any]]:
        """Of each device: ``seen_s``, ``online`` (None if it never said) and what its last hello said."""
        rows = self._database.rows("SELECT name, seen_s, online, hello FROM device ORDER BY name")
        return {
            name: {"seen_s": seen_s, "online": None if online is None else bool(online), **json.loads(hello or "{}")}
            for name, seen_s, online, hello in rows
        }

    def boards(self) -> dict[str, str]:
        """The board of each device that ever said hello."""
        return {name: str(told["board"]) for name, told in self.devices().items() if "board" in told}

    def add_report(self, device: str, report: Report, message_id: str) -> bool:
        """Store a round's record; False if this message was stored before.

        Raises:
            MalformedMessageError: If the record holds what JSON cannot, such as bytes or a number that is not finite.
        """
        try:
            record = json.dumps(report.record, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MalformedMessageError(f"report: the record is not JSON ({error})") from error
        with self._database.transaction() as database:
            done = database.execute(
                "INSERT OR IGNORE INTO report VALUES (?, ?, ?, ?, ?, ?)",
                (device, message_id, self._clock(), report.round_id, report.task_version, record),
            )
            return done.rowcount == 1

    def reports(self, device: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Device and record of every report, or of one device's, in the order they came."""
        query = "SELECT device, record FROM report WHERE ? IS NULL OR device = ? ORDER BY received_s, device"
        return [(name, json.loads(record)) for name, record in self._database.rows(query, device, device)]

    def gains(self) -> list[ReportedGain]:
        """What personalising gained on each device's hold-out, by the last of its reports that say so."""
        query = (
            "SELECT json_extract(record, '$.outcome.samples_local'), json_extract(record, ?) AS gain,"
            " json_extract(record, ?), MAX(received_s)"
            " FROM report WHERE gain IS NOT NULL GROUP BY device ORDER BY device"
        )
        paths = (f"$.outcome.metrics.{name}" for name in (RANKING_GAIN, RANKING_GAIN_ERROR))
        found = (gain_from(*values[:3]) for values in self._database.rows(query, *paths))
        return [gain for gain in found if gain is not None]

    def close(self) -> None:
        """Close the databases."""
        self.collecting.close()
        self.logs.close()
        self.rollouts.close()
        self._database.close()
