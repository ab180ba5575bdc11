"""The cloud's database: one engine a process and URL, transactions that are on disk when they return, clear errors.

To build on it: say the tables in `cloud_broker.storage.tables`; write the step that makes them as
``migrations/versions/vNNNN_what.py`` (``revision = "NNNN"``, ``down_revision`` the one before) and name it in
`migrating.HEAD`; a test holds both together. Then, in a store::

    database = SharedDatabase(where)  # a `Place`, or a state folder
    note = replace(DEVICE)  # built once: a statement that is kept is compiled once
    with database.transaction() as connection:
        connection.execute(note, {"name": "kiosk-1", "seen_s": 0.0})
    rows = database.rows(select(DEVICE.c.name).where(DEVICE.c.seen_s > bindparam("since_s")), since_s=0.0)

`rows` reads one statement outside any transaction. PostgreSQL does not keep others out of a transaction as SQLite does:
what is read to decide what to write is read after `hold`, or the write itself says the condition.
The pool of samples is not in here: it is files of one machine (`cloud_broker.pool`) with a SQLite file of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cloud_broker.errors import CloudError, StorageError, UnavailableError
from cloud_broker.files import lock_directory
from cloud_broker.storage.engine import for_reading, make_engine
from cloud_broker.storage.migrating import differences, upgrade, version_of
from cloud_broker.storage.place import Place, name_of
from cloud_broker.storage.taking_over import take_over


@dataclass(frozen=True)
class Condition:
    """How a database is.

    Attributes:
        version: The last step of `migrations` that it has seen.
        faults: What is not as it should be.
    """

    version: str
    faults: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is."""
        return not self.faults


class SharedDatabase:
    """A database by URL, at its newest version; safe to use from several threads.

    Attributes:
        name: What to call it, without secrets.
    """

    def __init__(self, where: Place | Path) -> None:
        """Open the database of a place; create or upgrade it where that is needed.

        Raises:
            StorageError: If it cannot be used.
            UnavailableError: If it is away.
        """
        place = Place.of(where)
        opened = _Opened.of(place)
        self.name = opened.name
        self._engine, self._reading, self._writing = opened.engine, opened.reading, opened.writing
        self._finalizer = weakref.finalize(self, opened.release)
        try:
            opened.prepare(place)
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Everything inside happens, durably, or nothing does.

        Raises:
            StorageError: If the database fails, or a statement does not fit its tables.
            UnavailableError: If it is away, or another process has kept it for too long.
        """
        with self._writing, telling(self.name), self._engine.begin() as connection:
            yield connection

    def rows(self, statement: Executable, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of one statement that changes nothing.

        Raises:
            StorageError, UnavailableError: As `transaction`.
        """
        with telling(self.name), self._reading.connect() as connection:
            return list(map(tuple, connection.execute(statement, values)))

    def drop_log(self) -> None:
        """Empty SQLite's log, in which what was deleted may still be read; PostgreSQL cleans up by itself, in time.

        Raises:
            StorageError, UnavailableError: As `transaction`.
        """
        if self.dialect == "sqlite":
            self.rows(text("PRAGMA wal_checkpoint(TRUNCATE)"))

    def condition(self) -> Condition:
        """How the database is; SQLite reads all of the file for it.

        Raises:
            StorageError, UnavailableError: As `transaction`.
        """
        with telling(self.name), self._reading.connect() as connection:
            faults = [f"its tables differ from this version's: {one}" for one in differences(connection)]
            if self.dialect == "sqlite":
                said = connection.execute(text("PRAGMA integrity_check")).scalars().all()
                faults += [str(fault) for fault in said if fault != "ok"]
            return Condition(str(version_of(connection)), tuple(faults))

    def close(self) -> None:
        """Let go of it; its connections close when the last of this process that uses it does."""
        self._finalizer()


def insert(table: Table) -> postgresql.Insert:
    """An insertion that may say ``on_conflict_do_...``; SQLite and PostgreSQL spell it alike."""
    return postgresql.insert(table)


def keep(table: Table) -> postgresql.Insert:
    """Insert a row, unless there is one of that primary key; its ``rowcount`` tells."""
    statement = insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    return statement.execution_options(preserve_rowcount=True)


def replace(table: Table, *only: str) -> postgresql.Insert:
    """Insert a row, in place of one of that primary key.

    Args:
        table: Where.
        only: Columns that change where there is such a row; if none is named all do, and those not given take their
            defaults.
    """
    statement = insert(table)
    changed = only or [column.name for column in table.columns if not column.primary_key]
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={name: statement.excluded[name] for name in changed}
    )


def hold(connection: Connection, table: Table) -> None:
    """Let no other transaction write to a table until this one ends; on SQLite none does anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f'LOCK TABLE "{table.name}" IN SHARE ROW EXCLUSIVE MODE'))


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Turn what SQLAlchemy raises into the cloud's errors."""
    try:
        yield
    except PoolTimeoutError as error:
        raise UnavailableError(f"database {name}: all connections are in use") from error
    except SQLAlchemyError as error:
        raise _told(name, error) from error


def _told(name: str, error: SQLAlchemyError) -> CloudError:
    # Only the driver's own words: SQLAlchemy's would add the statement with its values.
    said = " ".join(str(error.orig).split()) if isinstance(error, DBAPIError) else str(error)
    if type(getattr(error, "orig", None)).__module__.startswith("sqlite3"):
        if isinstance(error, OperationalError) and "locked" in said:
            return UnavailableError(f"database {name} is in use by another process")
        return StorageError(f"cannot use database {name}: {said}")
    if isinstance(error, OperationalError | InterfaceError) or getattr(error, "connection_invalidated", False):
        return UnavailableError(f"database {name} is away: {said}")
    return StorageError(f"database {name}: {said}")


class _Opened:
    """An engine that several stores of this process use."""

    _all: dict[str, _Opened] = {}  # noqa: RUF012 (guarded by `_turn`)
    _turn = threading.RLock()

    def __init__(self, place: Place) -> None:
        url = place.database_url
        self.name = name_of(url)
        self.engine: Engine = make_engine(url)
        self.reading = for_reading(self.engine)
        # Threads wait for their turn to write here: SQLite would have them look again and again.
        sqlite = self.engine.dialect.name == "sqlite"
        self.writing: AbstractContextManager[Any] = threading.RLock() if sqlite else nullcontext()
        self._key = url.render_as_string(hide_password=False)
        self._users = 0
        self._ready: set[Path] = set()

    @classmethod
    def of(cls, place: Place) -> _Opened:
        with cls._turn:
            key = place.database_url.render_as_string(hide_password=False)
            if key not in cls._all:
                cls._all[key] = cls(place)
            opened = cls._all[key]
            opened._users += 1
            return opened

    def release(self) -> None:
        with self._turn:
            self._users -= 1
            if not self._users:
                self._all.pop(self._key, None)
                self.engine.dispose()

    def prepare(self, place: Place) -> None:
        """Bring it up to date, once a process, with what a state folder has from before."""
        with self._turn, telling(self.name):
            if place.state_dir in self._ready:
                return
            file = self.engine.url.database if self.engine.dialect.name == "sqlite" else None
            # Two processes that create a SQLite file at once would find it locked, whatever their patience.
            with lock_directory(Path(file).parent) if file else nullcontext():
                upgrade(self.engine)
                take_over(place.state_dir, self.engine)
            self._ready.add(place.state_dir)
