"""The file of a device's memory: whole, of this program and layout, of one process at a time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import DiskError, StoreError
from edge.storage.database import Database
from edge.storage.layout import APPLICATION_ID, MIGRATIONS
from edge.storage.store import Store
from tests.edge.samples import samples


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """The error names the file and the remedy, and the file is left alone."""
    path = tmp_path / "device.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"device\.db: damaged .*move it away"):
        Store(tmp_path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_torn_file_is_told(tmp_path: Path) -> None:
    """Pages of garbage in the middle are found when the store opens."""
    with Store(tmp_path) as store:
        for seed in range(20):
            store.samples.add(samples(200, seed=seed))
    path = tmp_path / "device.db"
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    """Another program's SQLite file is not touched."""
    with sqlite3.connect(tmp_path / "device.db") as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(StoreError, match="another program's"):
        Store(tmp_path)


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    """A file that a newer program wrote says so; nothing is downgraded."""
    Store(tmp_path).close()
    later = sqlite3.connect(tmp_path / "device.db", isolation_level=None)
    later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(StoreError, match="layout 99 is newer"):
        Store(tmp_path)


def test_an_older_layout_is_upgraded(tmp_path: Path) -> None:
    """Only the steps that are missing are applied, and what was there stays."""
    path = tmp_path / "device.db"
    with Database(path) as database, database.transaction() as rows:
        rows.execute("INSERT INTO schemas VALUES ('d', '{}')")
    with Database(path, (*MIGRATIONS, "ALTER TABLE schemas ADD COLUMN note TEXT;")) as database:
        assert database.rows("SELECT digest, note FROM schemas") == [("d", None)]
        assert database.rows("PRAGMA user_version") == [(len(MIGRATIONS) + 1,)]
        assert database.rows("PRAGMA application_id") == [(APPLICATION_ID,)]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second process is told to wait for the first; the folder is free again afterwards."""
    code = f"from edge.storage.store import Store; from pathlib import Path; Store(Path({str(tmp_path)!r})).close()"
    with Store(tmp_path):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another process uses it" in second.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_written_files_are_swept_up(tmp_path: Path) -> None:
    """Those that a kill leaves; others stay."""
    for name in (".time.json.abcd1234", "time.json"):
        (tmp_path / name).write_text("{}")
    with Store(tmp_path):
        assert [path.name for path in tmp_path.glob("*time.json*")] == ["time.json"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The path and the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*Not a directory") as refused:
        Store(tmp_path / "file" / "state")
    assert not isinstance(refused.value, DiskError)


def test_commits_survive_a_killed_process(tmp_path: Path) -> None:
    """What was committed before SIGKILL is there, what was not is not."""
    code = (
        "import os, signal; from pathlib import Path; from edge.storage.store import Store\n"
        f"store = Store(Path({str(tmp_path)!r}))\n"
        "store.rounds.serve('a' * 64, 'kept', None)\n"
        "with store.transaction():\n"
        "    store.rounds.serve('a' * 64, 'lost', None)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with Store(tmp_path) as store:
        serving = store.rounds.serving()
    assert serving is not None
    assert serving.round_id == "kept"
