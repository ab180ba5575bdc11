"""Copying a cloud's state to another database and another store of blobs: how a cloud that has grown moves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection, Table, select

from cloud_broker.errors import StorageError
from cloud_broker.storage import task_tables  # noqa: F401 - its tables are in `METADATA` then
from cloud_broker.storage.blobs import open_files
from cloud_broker.storage.database import SharedDatabase
from cloud_broker.storage.filling import AT_ONCE, check_empty, count_on
from cloud_broker.storage.place import Place
from cloud_broker.storage.tables import BLOB, METADATA, TAKEN_OVER
from protocol.messages import BlobRef

_TABLES = [table for table in METADATA.sorted_tables if table is not TAKEN_OVER]


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Attributes:
        rows: Of all tables.
        blobs: Whose bytes were copied; none where both clouds keep them in the same place.
    """

    rows: int
    blobs: int


def copy_state(source: Place, target: Place, say: Callable[[str], None]) -> Copied:
    """Copy everything in a cloud's database, and its blobs, to the database and store of another, which are new.

    Where both name one database, the blobs alone.

    Nothing of the source changes; its cloud is to be stopped, for what it writes meanwhile waits. The pool, rows of
    large tables and logs are files, which are copied as files if the other cloud has another state folder.

    Args:
        source: Where the state is.
        target: Where it is to be.
        say: Told each table and how many rows it has.

    Raises:
        StorageError: If the target's database is not empty, or all is the source's, or a blob is damaged.
        UnavailableError: If one of them is away.
    """
    if source.database_url == target.database_url:
        if not _apart(source, target):
            raise StorageError("both configurations name the same database and blobs: there is nothing to copy")
        with closing(SharedDatabase(source)) as one, one.transaction() as reading:
            return Copied(0, _copy_blobs(source, target, reading))
    with (
        closing(SharedDatabase(source)) as old,
        closing(SharedDatabase(target)) as new,
        old.transaction() as reading,
        new.transaction() as writing,
    ):
        check_empty(writing, _TABLES, f"cannot copy {old.name}")
        blobs = _copy_blobs(source, target, reading) if _apart(source, target) else 0
        rows = 0
        for table in _TABLES:
            copied = _copy_rows(table, reading, writing)
            say(f"{table.name}: {copied:,} rows")
            rows += copied
        count_on(writing)
    return Copied(rows, blobs)


def _apart(source: Place, target: Place) -> bool:
    bucket = source.options.bucket
    return bucket != target.options.bucket or (bucket is None and source.state_dir != target.state_dir)


def _copy_blobs(source: Place, target: Place, reading: Connection) -> int:
    """Before the rows that name them."""
    old, new = open_files(source), open_files(target)
    refs = [BlobRef(sha256, size) for sha256, size in reading.execute(select(BLOB.c.sha256, BLOB.c.size_bytes))]
    for ref in refs:
        new.write(ref, old.read(ref))
    return len(refs)


def _copy_rows(table: Table, reading: Connection, writing: Connection) -> int:
    count = 0
    for rows in reading.execute(select(table)).mappings().partitions(AT_ONCE):
        writing.execute(table.insert(), [dict(row) for row in rows])
        count += len(rows)
    return count
