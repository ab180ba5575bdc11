"""The device's SQLite file: opened safely, upgraded in steps, changed only in transactions that survive a power cut."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import DiskError, StoreError
from edge.storage.disk import Fault, probe, store_error
from edge.storage.layout import APPLICATION_ID, MIGRATIONS

_BUSY_MS = 5000


class Database:
    """One connection, usable from any thread; a context manager that closes it.

    Args:
        path: The file; made if absent.
        migrations: Scripts that lead from an empty file to the present layout.
        read_only: Neither makes nor changes the file, and so can look into it beside the process that does.
        lenient: A file on a disk that is full or cannot be written is opened to read; each transaction then tries to
            open it anew, and raises `DiskError` until that succeeds.

    Raises:
        StoreError: If the file is damaged, another program's, of a later version, or cannot be opened; to read only,
            also if it is absent or of an earlier version.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str] = MIGRATIONS,
        *,
        read_only: bool = False,
        lenient: bool = False,
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._lock = threading.RLock()
        self._depth = 0
        self._log_to_wipe = False  # what was to be wiped is still in the log, as somebody was reading the file
        self._lame = False  # the connection cannot write, or met a failing disk: to be opened anew
        if read_only:
            self._connection = self._opened_to_read()
            return
        try:
            # On a full disk SQLite would change the log's index, which is mapped, and a mapped hole kills the process.
            self._lame = lenient and path.exists() and probe(path.parent) is not None
            self._connection = self._opened_to_read() if self._lame else self._opened_to_write()
        except DiskError:
            if self._lame or not lenient or not path.exists():
                raise
            self._lame = True
            self._connection = self._opened_to_read()

    def _opened_to_write(self) -> sqlite3.Connection:
        return self._opened(str(self.path), self._prepare, uri=False)

    def _opened_to_read(self) -> sqlite3.Connection:
        """Without changing the log's index where nobody writes; else beside whoever does."""
        name = f"{self.path.resolve().as_uri()}?mode=ro"
        log = self.path.with_name(f"{self.path.name}-wal")
        alone = "&readonly_shm=1" if log.exists() and log.stat().st_size else "&immutable=1"
        ways = [name + alone, name] if self._lame else [name, name + alone]
        try:
            return self._opened(ways[0], self._check_layout, uri=True)
        except DiskError:
            return self._opened(ways[1], self._check_layout, uri=True)

    def _opened(self, name: str, check: Callable[[sqlite3.Connection], None], *, uri: bool) -> sqlite3.Connection:
        what = f"device store {self.path}"
        try:
            connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=uri)
        except sqlite3.Error as error:
            raise store_error(self.path.parent, f"{what}: cannot be opened", error) from error
        try:
            check(connection)
        except sqlite3.Error as error:
            connection.close()
            found = store_error(self.path.parent, what, error)
            if isinstance(error, sqlite3.OperationalError) and isinstance(found, DiskError):
                raise found from error
            raise StoreError(
                f"{what}: damaged ({error}); move it away, and the device starts afresh from h0"
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._check_ours(connection)
        # What is deleted is overwritten at once: wiping could not find what lies in pages that became free before.
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-1024", "secure_delete=ON")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        finding = _pragma(connection, "quick_check")
        if finding != "ok":
            raise sqlite3.DatabaseError(str(finding).splitlines()[0])
        version, migrations = _pragma(connection, "user_version"), self._migrations
        if version > len(migrations):
            raise StoreError(
                f"device store {self.path}: layout {version} is newer than this program's {len(migrations)}; update it"
            )
        for number, script in enumerate(migrations[version:], start=version + 1):
            stamps = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number};"
            connection.executescript(f"BEGIN IMMEDIATE; {script} {stamps} COMMIT;")
        # SQLite silently opens a file to read where it cannot open it to write; this shows.
        connection.executescript("BEGIN IMMEDIATE; ROLLBACK;")

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        self._check_ours(connection)
        if (found := _pragma(connection, "user_version")) != len(self._migrations):
            raise StoreError(
                f"device store {self.path}: layout {found} is not this program's {len(self._migrations)}; start the "
                "device's service with this version once"
            )

    def _check_ours(self, connection: sqlite3.Connection) -> None:
        application = _pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or tables):
            raise StoreError(f"device store {self.path}: another program's database; give the device its own state_dir")

    def _open_anew(self) -> None:
        """Open a file to write that could not be written before.

        Raises:
            DiskError: If it still cannot.
        """
        if (fault := probe(self.path.parent)) is not None:
            raise DiskError(f"device store {self.path}: the disk is still {fault.value}", fault.value)
        # Closed first: to close a file takes all locks of the process on it.
        self._connection.close()
        try:
            self._connection = self._opened_to_write()
        except BaseException:
            self._connection = self._opened_to_read()
            raise
        self._lame = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the body's changes, on disk when it ends, or none of them; nested ones join the outermost.

        Raises:
            DiskError: If the disk is full or cannot be written.
            StoreError: If SQLite finds another fault.
        """
        with self._lock:
            if self._depth:
                yield self._connection
                return
            if self._lame:
                self._open_anew()
            self._depth += 1
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
                if self._log_to_wipe:
                    self._wipe_log(0)
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._told(error) from error
                raise
            finally:
                self._depth -= 1

    def _told(self, error: sqlite3.Error) -> StoreError:
        found = store_error(self.path.parent, f"device store {self.path}", error)
        self._lame = isinstance(found, DiskError) and found.fault != Fault.FULL.value
        return found

    @contextmanager
    def wiping(self) -> Iterator[sqlite3.Connection]:
        """As `transaction`, and what was deleted, overwritten in the file, is not left in the log beside it either.

        While another program reads the file the log stays as it is: it goes with the next transaction after that.
        A flash card may keep old copies of its own below the file system.
        """
        with self._lock:
            with self.transaction() as connection:
                yield connection
            self._wipe_log(_BUSY_MS)

    def _wipe_log(self, patience_ms: int) -> None:
        try:
            self._connection.execute(f"PRAGMA busy_timeout={patience_ms}")
            self._log_to_wipe = bool(_pragma(self._connection, "wal_checkpoint(TRUNCATE)"))
            self._connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        except sqlite3.Error:  # the disk takes nothing now; what was committed stands
            self._log_to_wipe = True

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


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
