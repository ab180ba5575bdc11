"""State folders of before, when every store had a SQLite file of its own: their rows go into the one database.

It happens once, when the folder is opened, in one transaction; then the files are renamed, ``{name}.taken-over``. What
was made for one device and can be made again, matched samples and answers, is not taken over.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Connection, Engine, Table, insert, select

from cloud_broker.errors import StorageError
from cloud_broker.storage import tables
from cloud_broker.storage.filling import AT_ONCE, check_empty, count_on
from cloud_broker.storage.stages import LIVE, RETIRED

_FILES: dict[str, tuple[Table, ...]] = {
    "blobs.sqlite": (tables.BLOB,),
    "registry.sqlite": (tables.MODEL,),
    "tasks.sqlite": (tables.TASK, tables.ASSIGNMENT),
    "ledger.sqlite": (tables.DEVICE, tables.REPORT, tables.DATA_USE),
    "collecting.sqlite": (tables.OFFER, tables.PIECE),
    "logs.sqlite": (tables.LOG_REQUEST,),
    "rollouts.sqlite": (tables.ROLLOUT, tables.TOLD, tables.OUTCOME),
}
_TELLING = [tables.MODEL, tables.TASK, tables.DEVICE, tables.ROLLOUT]  # one that is in use has rows in one of them


def take_over(state_dir: Path, engine: Engine) -> None:
    """Bring what a state folder has from before into the database; nothing, if it has nothing.

    Raises:
        StorageError: If a file of before cannot be read, or the database holds another cloud's state already.
    """
    files = [state_dir / name for name in _FILES if (state_dir / name).exists()]
    if not files:
        return
    with engine.begin() as connection:
        taken = set(connection.scalars(select(tables.TAKEN_OVER.c.file)))
        if missing := [file for file in files if _named(file) not in taken]:
            named = ", ".join(str(file) for file in missing)
            check_empty(connection, _TELLING, f"{named} hold the state of an earlier version, to be taken over")
            for file in missing:
                _take(connection, file)
            if any(file.name == "registry.sqlite" for file in missing):
                _note_stages(connection)
            count_on(connection)
    for file in files:
        for part in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
            if part.exists():
                part.rename(part.with_name(part.name + ".taken-over"))


def _named(file: Path) -> str:
    return str(file.resolve())


def _take(connection: Connection, file: Path) -> None:
    try:
        with closing(sqlite3.connect(file)) as old:
            old.row_factory = sqlite3.Row
            for table in _FILES[file.name]:
                for rows in _batches(old, table):
                    connection.execute(insert(table), rows)
    except sqlite3.Error as error:
        raise StorageError(f"cannot take over {file}, of an earlier version: {error}") from error
    connection.execute(insert(tables.TAKEN_OVER), {"file": _named(file), "taken_s": time.time()})


def _batches(old: sqlite3.Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    if not old.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table.name]).fetchone():
        return
    found = old.execute(f"SELECT * FROM {table.name}")  # noqa: S608 (our own names)
    names = {described[0] for described in found.description}
    known = [column for column in table.columns if column.name in names]
    while rows := found.fetchmany(AT_ONCE):
        yield [{column.name: _value(column.type, row[column.name]) for column in known} for row in rows]


def _value(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, JSON):
        return json.loads(value)
    return bool(value) if isinstance(kind, Boolean) else value


def _note_stages(connection: Connection) -> None:
    """Each model was live from its publication to the next one's."""
    before = None
    for version, published_s in connection.execute(
        select(tables.MODEL.c.version, tables.MODEL.c.published_s).order_by(tables.MODEL.c.version)
    ).all():
        change = {"since_s": published_s, "reason": "published"}
        if before is not None:
            retired = {"version": before, "stage": RETIRED, "since_s": published_s, "reason": f"{version} is live"}
            connection.execute(insert(tables.STAGE), retired)
        connection.execute(insert(tables.STAGE), {**change, "version": version, "stage": LIVE, "live_before": before})
        before = version
