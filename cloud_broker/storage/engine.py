"""Engines: how SQLite and PostgreSQL are opened so that what is committed is on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from cloud_broker.errors import StorageError
from cloud_broker.files import make_private_directory

_PATIENCE_S = 5.0  # for a SQLite file that another process keeps, and for a PostgreSQL server to answer
_CONNECTIONS, _MORE_CONNECTIONS = 4, 64  # kept, and opened beyond while all are in use; a worker has up to 64 threads
_READING = "reading"


def make_engine(url: URL) -> Engine:
    """An engine; nothing is connected yet.

    Raises:
        StorageError: If its driver is not installed, or a folder cannot be made.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    try:
        return _postgresql(url)
    except ImportError as error:
        raise StorageError(f"PostgreSQL needs psycopg ({error}): pip install 'coda-edge[postgresql]'") from error


def for_reading(engine: Engine) -> Engine:
    """The same engine for single statements that change nothing: no transaction, and so no lock."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READING: True})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _sqlite(url: URL) -> Engine:
    make_private_directory(Path(str(url.database)).parent)
    # The driver's own ideas of when a transaction begins are switched off: `_begin` says.
    connecting = {"isolation_level": None, "check_same_thread": False, "timeout": _PATIENCE_S}
    engine = create_engine(url, connect_args=connecting, pool_size=_CONNECTIONS, max_overflow=_MORE_CONNECTIONS)
    event.listen(engine, "connect", _on_disk)
    event.listen(engine, "begin", _begin)
    return engine


def _on_disk(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    # A committed transaction is on disk: what we acknowledge survives a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    # Letters hold samples: what is deleted is not left in free pages.
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READING):
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # waits for its turn at once, instead of failing in the middle


def _postgresql(url: URL) -> Engine:
    connecting = {
        "application_name": "coda-cloud",
        "connect_timeout": int(_PATIENCE_S),
        # A server whose machine or network is gone says nothing at all.
        "keepalives_idle": int(_PATIENCE_S),
        "keepalives_interval": int(_PATIENCE_S),
        "keepalives_count": 2,
        "tcp_user_timeout": int(2e3 * _PATIENCE_S),
    }
    engine = create_engine(
        url,
        connect_args=connecting,
        pool_pre_ping=True,  # a connection from before the server's restart is replaced, not used
        pool_size=_CONNECTIONS,
        max_overflow=_MORE_CONNECTIONS,
    )
    event.listen(engine, "connect", _flushed)
    return engine


def _flushed(connection: Any, _record: Any) -> None:
    # Whatever the server's or role's default: a commit that has returned is on disk.
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
    connection.commit()
