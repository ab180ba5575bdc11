"""Filling a database with rows from elsewhere: only an empty one, and it numbers on from what it was given."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select, text

from cloud_broker.errors import StorageError
from cloud_broker.storage.place import name_of
from cloud_broker.storage.tables import METADATA

AT_ONCE = 500  # rows


def check_empty(connection: Connection, tables: list[Table], what: str) -> None:
    """See that tables hold nothing yet.

    Raises:
        StorageError: If one does; ``what`` says what was to be brought there.
    """
    for table in tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise StorageError(
                f"{what}: database {name_of(connection.engine.url)} holds another already ({table.name} is not empty): "
                "name an empty database"
            )


def count_on(connection: Connection) -> None:
    """Have PostgreSQL number what comes after the rows that it was given; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in METADATA.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        last = connection.scalar(select(func.max(column)))
        if last is not None:
            sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
            connection.execute(text(f"SELECT setval({sequence}, :last)"), {"last": last})
