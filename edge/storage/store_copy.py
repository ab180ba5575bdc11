"""A copy of the device's database from before a release is tried.

The release may change its layout, which the one before could not read. The standard library alone, as
`edge.updates.handover` uses it.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from hardware.durable import sync

DATABASE = "device.db"


def keep_copy(state_dir: Path, copy: Path) -> None:
    """Copy the database, whatever uses it meanwhile; whole on disk when this returns.

    Raises:
        OSError: If the disk fails.
    """
    temporary = copy.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(state_dir / DATABASE)) as source, closing(sqlite3.connect(temporary)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise OSError(f"cannot copy {state_dir / DATABASE}: {error}") from error
    temporary.chmod(0o600)
    sync(temporary)
    temporary.replace(copy)
    sync(copy.parent)


def restore(state_dir: Path, copy: Path) -> bool:
    """Put the copy back if the database has a later layout now; what was told since the copy is then lost.

    Cut at any point, it can be done again. The copy stays.

    Returns:
        Whether it did.

    Raises:
        OSError: If the disk fails.
    """
    database = state_dir / DATABASE
    if not copy.exists() or _layout(database) <= _layout(copy):
        return False
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")  # no log is left that could be taken for the copy's
    except sqlite3.Error as error:
        raise OSError(f"cannot close the log of {database}: {error}") from error
    temporary = database.with_suffix(".old")
    shutil.copyfile(copy, temporary)
    temporary.chmod(0o600)
    sync(temporary)
    temporary.replace(database)
    sync(state_dir)
    return True


def _layout(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise OSError(f"cannot read {path}: {error}") from error
