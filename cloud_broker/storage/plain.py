"""The database for code that a device runs too, which knows no SQLAlchemy: SQL as text, its values marked ``?``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any

from sqlalchemy import Connection, TextClause, text

from cloud_broker.storage.database import SharedDatabase


class PlainSql:
    """A `SharedDatabase` as `profiling.data_use.Database`."""

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query; errors are `SharedDatabase.rows`'."""
        return self._database.rows(_clause(query), **_named(values))

    @contextmanager
    def transaction(self) -> Iterator[_Executing]:
        """Everything inside happens, durably, or nothing does; errors are `SharedDatabase.transaction`'s."""
        with self._database.transaction() as connection:
            yield _Executing(connection)


class _Executing:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[Any] = (), /) -> None:
        self._connection.execute(_clause(query), _named(values))


@lru_cache(maxsize=64)
def _clause(query: str) -> TextClause:
    first, *rest = query.split("?")
    return text(first + "".join(f":v{number}{part}" for number, part in enumerate(rest)))


def _named(values: Sequence[Any]) -> Mapping[str, Any]:
    return dict(zip((f"v{number}" for number in count()), values, strict=False))
