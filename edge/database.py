"""The device's SQLite file: opened safely, upgraded in steps, changed only in transactions that survive a power cut."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import StoreError
from profiling.data_use import TABLE as DATA_USE_TABLE

APPLICATION_ID = 0x434F4441  # "CODA" in the file's header tells our database from another program's

_FIRST = """
CREATE TABLE schemas (digest TEXT PRIMARY KEY, features TEXT NOT NULL);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    schema_digest TEXT NOT NULL REFERENCES schemas,
    samples INTEGER NOT NULL,
    contributed INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY,
    task_version INTEGER NOT NULL,
    task BLOB NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    started_unix_s REAL NOT NULL,
    record TEXT
);
CREATE TABLE artefacts (
    round_id TEXT NOT NULL REFERENCES rounds ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (round_id, name)
);
CREATE TABLE phases (
    id INTEGER PRIMARY KEY,
    round_id TEXT NOT NULL REFERENCES rounds ON DELETE CASCADE,
    record TEXT NOT NULL
);
CREATE TABLE serving (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_sha256 TEXT NOT NULL,
    round_id TEXT NOT NULL,
    activated_unix_s REAL NOT NULL,
    weights BLOB
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    queued_unix_s REAL NOT NULL
);
"""
_ROWS = """
CREATE TABLE table_rows (
    number INTEGER PRIMARY KEY, version TEXT NOT NULL, id INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (version, id)
);
ALTER TABLE serving ADD COLUMN rows BLOB;
"""
_DATA_USE = f"""
{DATA_USE_TABLE}
CREATE TABLE outbox_losses (
    kind TEXT NOT NULL, why TEXT NOT NULL, messages INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, why)
) WITHOUT ROWID;
"""
_EVENTS = """
CREATE TABLE event_ids (number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE);
CREATE TABLE waiting_events (number INTEGER PRIMARY KEY, event TEXT NOT NULL);
CREATE TABLE exposures (
    number INTEGER PRIMARY KEY,
    item INTEGER NOT NULL UNIQUE,
    impressions INTEGER NOT NULL,
    label REAL,
    features TEXT NOT NULL
);
CREATE TABLE history (number INTEGER PRIMARY KEY, side TEXT NOT NULL, item INTEGER NOT NULL);
CREATE INDEX history_by_side ON history (side, number);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE batches ADD COLUMN newest_s INTEGER;
"""
MIGRATIONS: tuple[str, ...] = (_FIRST, _ROWS, _DATA_USE, _EVENTS)  # append only; `user_version` counts those applied


class Database:
    """One connection, usable from any thread; a context manager that closes it.

    Args:
        path: The file; made if absent.
        migrations: Scripts that lead from an empty file to the present layout.
        read_only: Neither makes nor changes the file, and so can look into it beside the process that does.

    Raises:
        StoreError: If the file is damaged, another program's, of a later version, or cannot be opened; to read only,
            also if it is absent or of an earlier version.
    """

    def __init__(self, path: Path, migrations: Sequence[str] = MIGRATIONS, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        try:
            name = f"{path.resolve().as_uri()}?mode=ro" if read_only else str(path)
            self._connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=read_only)
        except sqlite3.Error as error:
            raise StoreError(f"device store {path}: cannot be opened ({error}); is its folder writable?") from error
        try:
            if read_only:
                self._check_layout(len(migrations))
            else:
                self._prepare(migrations)
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreError(
                f"device store {path}: damaged ({error}); move it away, and the device starts afresh from h0"
            ) from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, migrations: Sequence[str]) -> None:
        self._check_ours()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-1024"):
            self._connection.execute(f"PRAGMA {pragma}")
        finding = self._pragma("quick_check")
        if finding != "ok":
            raise sqlite3.DatabaseError(str(finding).splitlines()[0])
        version = self._pragma("user_version")
        if version > len(migrations):
            raise StoreError(
                f"device store {self.path}: layout {version} is newer than this program's {len(migrations)}; update it"
            )
        for number, script in enumerate(migrations[version:], start=version + 1):
            stamps = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {script} {stamps} COMMIT;")

    def _check_layout(self, version: int) -> None:
        self._check_ours()
        if (found := self._pragma("user_version")) != version:
            raise StoreError(
                f"device store {self.path}: layout {found} is not this program's {version}; start the device's service "
                "with this version once"
            )

    def _check_ours(self) -> None:
        application = self._pragma("application_id")
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or tables):
            raise StoreError(f"device store {self.path}: another program's database; give the device its own state_dir")

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the body's changes, on disk when it ends, or none of them; nested ones join the outermost.

        Raises:
            StoreError: If the disk is full or fails.
        """
        with self._lock:
            if self._depth:
                yield self._connection
                return
            self._depth += 1
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise StoreError(f"device store {self.path}: {error}; nothing of this step was kept") from error
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def wiping(self) -> Iterator[sqlite3.Connection]:
        """As `transaction`, and what it deletes is overwritten in the file, and in the log beside it left behind.

        A flash card may keep old copies of its own below the file system.
        """
        with self._lock:
            self._connection.execute("PRAGMA secure_delete=ON")
            try:
                with self.transaction() as connection:
                    yield connection
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connection.execute("PRAGMA secure_delete=OFF")

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            StoreError: If the file cannot be read.
        """
        with self._lock:
            try:
                return self._connection.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"device store {self.path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
