"""SQLite files of one machine, shared among its processes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cloud_broker.errors import StorageError, UnavailableError
from cloud_broker.storage.small_database import Database
from protocol.messages import Accepted, Busy, Report
from tests.cloud_broker.test_handlers import Cloud, only

_TABLES = "CREATE TABLE IF NOT EXISTS thing (name TEXT);"
_PATIENCE_MS = 20


def _impatient(database: Database) -> None:
    database.rows(f"PRAGMA busy_timeout={_PATIENCE_MS}")


def test_a_file_that_another_process_keeps_is_away_for_a_moment(tmp_path: Path) -> None:
    """That is told apart from a file that is broken, and passes."""
    with (
        closing(Database(tmp_path / "x.sqlite", _TABLES)) as database,
        closing(sqlite3.connect(database.path)) as other,
    ):
        _impatient(database)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match=r"x\.sqlite is in use"), database.transaction():
            raise AssertionError("it is locked")
        other.rollback()
        with database.transaction() as writing:
            writing.execute("INSERT INTO thing VALUES ('a')")
        with pytest.raises(StorageError, match="no such table"):
            database.rows("SELECT * FROM elsewhere")


def test_a_device_is_put_off_while_a_file_is_kept(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to come again, instead of that the cloud failed; then it is answered."""
    monkeypatch.setattr("cloud_broker.storage.engine._PATIENCE_S", _PATIENCE_MS / 1000)
    cloud = Cloud(state_dir)
    report = Report("round-1", 1, {})
    with closing(sqlite3.connect(state_dir / "cloud.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        busy = only(cloud.hear(report, "report"))
        assert isinstance(busy, Busy)
        assert busy.message_id == "report"
        other.rollback()
    assert only(cloud.hear(report, "report")) == Accepted("report")
