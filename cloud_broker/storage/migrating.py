"""Bringing a database to the tables of today: when it is opened, whoever comes first; the others wait.

A step that fails leaves the database as it was: SQLite and PostgreSQL both change tables within transactions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from cloud_broker.errors import StorageError
from cloud_broker.storage.place import name_of

# The last step in `migrations/versions`. Known without loading Alembic, which an up-to-date database does not need.
HEAD = "0002"
_FOLDER = Path(__file__).with_name("migrations")
_TURN = 0x636F6461  # of PostgreSQL's advisory locks: "coda"


def version_of(connection: Connection) -> str | None:
    """The last step that a database has seen; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def upgrade(engine: Engine) -> None:
    """Run the steps that a database has not seen; none, if it is up to date.

    Raises:
        StorageError: If a later version of this program has changed it.
    """
    with engine.begin() as connection:  # on SQLite this keeps all others out
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
        if (seen := version_of(connection)) != HEAD:
            _run(connection, seen)


def differences(connection: Connection) -> list[Any]:
    """What a database's tables have that `tables` does not say, or lack."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415

    from cloud_broker.storage import task_tables  # noqa: F401, PLC0415 (its tables are in `METADATA` then)
    from cloud_broker.storage.tables import METADATA  # noqa: PLC0415

    found: list[Any] = compare_metadata(MigrationContext.configure(connection), METADATA)
    return found


def _run(connection: Connection, seen: str | None) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if seen is not None and seen not in known:
        raise StorageError(
            f"database {name_of(connection.engine.url)} is of a later version of this program ({seen}; this one "
            f"knows {HEAD}): use that version"
        )
    command.upgrade(config, "head")
