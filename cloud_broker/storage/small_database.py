"""One small SQLite file of one machine, the pool's: safe to share among threads, durable when a transaction returns.

What may lie on another machine is in `cloud_broker.storage.database`.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_broker.errors import CloudError, StorageError, UnavailableError
from cloud_broker.files import make_private_directory


class Database:
    """A SQLite file with its tables; one connection, one thread at a time."""

    def __init__(self, path: Path, tables: str) -> None:
        """Open the file, or create it with ``tables`` (SQL that changes nothing where they exist).

        Raises:
            StorageError: If the file is not a database that can be used.
        """
        self.path = path
        self._lock = threading.RLock()
        make_private_directory(path.parent)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._finalizer = weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A committed transaction is on disk: what we acknowledge survives a power cut.
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(tables)
        except sqlite3.Error as error:
            raise StorageError(f"cannot use database {path}: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside happens, durably, or nothing does.

        Raises:
            StorageError: If the disk or the file fails.
            UnavailableError: If another process has kept it for too long.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            StorageError: If the disk or the file fails.
            UnavailableError: If another process has kept it for too long.
        """
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def close(self) -> None:
        """Close the file; one that is no longer used closes by itself."""
        with self._lock:
            self._finalizer()

    def _failed(self, error: sqlite3.Error) -> CloudError:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return UnavailableError(f"database {self.path} is in use by another process")
        return StorageError(f"database {self.path}: {error}")
