"""Numbers that only rise, on disk, by name; see `edge.overview`."""

from __future__ import annotations

from edge.storage.database import Database

_ADD = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"


class Counters:
    """Counts; an absent one is 0. Forgetting the user forgets them all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, count: int) -> None:
        """Raise one; call it in the transaction of what it counts."""
        if count:
            with self._database.transaction() as rows:
                rows.execute(_ADD, (name, count))

    def clear(self, name: str) -> None:
        """Begin one anew."""
        with self._database.transaction() as rows:
            rows.execute("DELETE FROM counters WHERE name = ?", (name,))

    def value(self, name: str) -> int:
        """How far one has come."""
        found = self._database.rows("SELECT value FROM counters WHERE name = ?", name)
        return int(found[0][0]) if found else 0
