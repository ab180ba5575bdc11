"""What the pool consists of: who gave what when, where it lies, and what is to be erased. One SQLite file.

A contribution exists once it is listed here. It is *placed* (has rows), *quarantined* (has a reason instead) or *gone*
(its length is 0; it stays listed, so that it is known if it comes again).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cloud_broker.errors import StorageError
from cloud_broker.pool.contributions import Entry, Held, Leaving, Placed
from cloud_broker.pool.manifest_layout import open_listed
from cloud_broker.pool.segments import Location
from protocol.schema import FeatureSchema


class Manifest:
    """The list; safe to use from several threads and processes."""

    def __init__(self, directory: Path) -> None:
        """Open the list under ``directory``, or create it; to be called with the pool's lock held.

        Raises:
            StorageError: If it is not a database that can be used.
        """
        self.path = directory / "pool.sqlite"
        self._database = open_listed(self.path)

    def schema(self) -> FeatureSchema | None:
        """The features of the samples; None of a pool that is new."""
        stored = self._database.rows("SELECT features FROM pool")
        return FeatureSchema.from_dict(json.loads(stored[0][0])) if stored else None

    def set_schema(self, schema: FeatureSchema) -> None:
        """Say which features the samples of a new pool have."""
        with self._database.transaction() as database:
            database.execute("INSERT INTO pool VALUES (1, ?)", [json.dumps(schema.to_dict())])

    def number(self, contributor: str) -> int | None:
        """A contributor's number; None if it gave nothing."""
        rows = self._database.rows("SELECT id FROM contributor WHERE name = ?", contributor)
        return int(rows[0][0]) if rows else None

    def names(self) -> dict[int, str]:
        """Names of contributors by their numbers."""
        return dict(self._database.rows("SELECT id, name FROM contributor"))

    def say_agreement(self, names: Iterable[str], allowed: bool) -> None:
        """Note whether contributors allow that their opinions are compared; what is noted already is not written."""
        for name in names:
            if self._database.rows("SELECT 1 FROM contributor WHERE name = ? AND agreement = ?", name, allowed):
                continue
            with self._database.transaction() as database:
                database.execute(
                    "INSERT INTO contributor (name, agreement) VALUES (?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET agreement = excluded.agreement",
                    (name, allowed),
                )

    def agreeing(self) -> list[int]:
        """Numbers of the contributors who allow that their opinions are compared."""
        return [row[0] for row in self._database.rows("SELECT id FROM contributor WHERE agreement")]

    def heard(self, contributor: int, message_id: str) -> bool:
        """Whether a contributor's message was listed before."""
        query = "SELECT 1 FROM contribution WHERE contributor = ? AND message_id = ?"
        return bool(self._database.rows(query, contributor, message_id))

    def ranges(self, contributor: int, before: int | None = None) -> list[tuple[int, int]]:
        """First row and number of rows of what a contributor has in the pool, before a row if one is given."""
        query = (
            "SELECT first_row, samples FROM contribution WHERE contributor = ? AND length > 0"
            " AND first_row IS NOT NULL AND (? IS NULL OR first_row < ?) ORDER BY first_row"
        )
        return self._database.rows(query, contributor, before, before)

    def given_since(self, contributor: int, since_s: float) -> int:
        """How many samples a contributor gave since a time, quarantined ones too."""
        query = "SELECT sum(samples) FROM contribution WHERE contributor = ? AND received_s >= ? AND length > 0"
        return int(self._database.rows(query, contributor, since_s)[0][0] or 0)

    def rows(self) -> int:
        """Rows given out so far, those of what is gone too."""
        last = (
            "SELECT first_row + samples FROM contribution WHERE first_row IS NOT NULL ORDER BY first_row DESC LIMIT 1"
        )
        found = self._database.rows(last)
        return int(found[0][0]) if found else 0

    def live(self) -> tuple[int, int]:
        """Contributors and samples that are in the pool now."""
        query = "SELECT count(DISTINCT contributor), sum(samples) FROM contribution"
        contributors, samples = self._database.rows(f"{query} WHERE length > 0 AND first_row IS NOT NULL")[0]
        return contributors, int(samples or 0)

    def end(self) -> Location | None:
        """The last record in the segments."""
        rows = self._database.rows(
            "SELECT segment, offset, length FROM contribution"
            " WHERE length > 0 ORDER BY segment DESC, offset DESC LIMIT 1"
        )
        return Location(*rows[0]) if rows else None

    def ends(self) -> list[Location]:
        """The last record of each segment."""
        query = "SELECT segment, max(offset), length FROM contribution WHERE length > 0 GROUP BY segment"
        return [Location(*row) for row in self._database.rows(query)]

    def placed(self, since_row: int = 0) -> list[Placed]:
        """Contributions by row, those that reach beyond ``since_row``."""
        rows = self._database.rows(
            "SELECT contributor, first_row, samples, segment, offset, length FROM contribution"
            " WHERE length > 0 AND first_row + samples > ? ORDER BY first_row",
            since_row,
        )
        return [Placed(contributor, first, samples, Location(*at)) for contributor, first, samples, *at in rows]

    def record(self, entries: Iterable[Entry]) -> None:
        """List contributions, all or none."""
        with self._database.transaction() as database:
            for e in entries:
                database.execute("INSERT INTO contributor (name) VALUES (?) ON CONFLICT DO NOTHING", [e.contributor])
                values = (e.message_id, e.samples, e.at.segment, e.at.offset, e.at.length, e.first_row, e.newest_s)
                database.execute(
                    "INSERT INTO contribution (contributor, message_id, samples, segment, offset, length, first_row,"
                    " newest_s, received_s, reason)"
                    " SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM contributor WHERE name = ?",
                    (*values, e.received_s, e.reason, e.contributor),
                )

    def place_waiting(self) -> None:
        """Give rows to what a pool of an earlier version listed without."""
        waiting = "SELECT id, samples FROM contribution WHERE first_row IS NULL AND reason IS NULL AND length > 0"
        row = self.rows()
        with self._database.transaction() as database:
            for number, samples in database.execute(f"{waiting} ORDER BY id").fetchall():
                database.execute("UPDATE contribution SET first_row = ? WHERE id = ?", (row, number))
                row += samples

    def renumber(self) -> None:
        """Give rows to the contributions that are in the pool, without the gaps that others left."""
        with self._database.transaction() as database:
            database.execute("UPDATE contribution SET first_row = NULL, samples = 0 WHERE length = 0")
            row = 0
            listed = "SELECT id, samples FROM contribution WHERE first_row IS NOT NULL ORDER BY first_row"
            for number, samples in database.execute(listed).fetchall():
                database.execute("UPDATE contribution SET first_row = ? WHERE id = ?", (row, number))
                row += samples

    def unlist_all(self, contributor: int, message_id: str) -> bool:
        """Take all of a contributor's off the list; False if this request was acted on before."""
        with self._database.transaction() as database:
            noted = database.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (contributor, message_id))
            if noted.rowcount:
                _unlist(database, "contributor = ?", contributor)
                database.execute("UPDATE contributor SET agreement = 0 WHERE id = ?", [contributor])
            return noted.rowcount > 0

    def unlist(self, numbers: Iterable[int]) -> None:
        """Take contributions off the list."""
        with self._database.transaction() as database:
            for number in numbers:
                _unlist(database, "id = ?", number)

    def leaving(self) -> list[Leaving]:
        """What is off the list and yet to be erased."""
        rows = self._database.rows("SELECT contributor, samples, first_row, segment, offset, length FROM erasing")
        return [Leaving(Location(*at), contributor, samples, first) for contributor, samples, first, *at in rows]

    def left(self) -> None:
        """All that was leaving is erased."""
        with self._database.transaction() as database:
            database.execute("DELETE FROM erasing")

    def older_than(self, time_s: float) -> list[int]:
        """Contributions in the pool whose latest sample is older."""
        query = "SELECT id FROM contribution WHERE length > 0 AND newest_s < ? AND first_row IS NOT NULL"
        return [row[0] for row in self._database.rows(query, time_s)]

    def oldest_beyond(self, most: int, contributor: int | None = None) -> list[int]:
        """The oldest contributions without which ``most`` samples are left, of all or of one contributor."""
        listed = (
            "SELECT id, samples FROM contribution WHERE length > 0 AND first_row IS NOT NULL"
            " AND (? IS NULL OR contributor = ?) ORDER BY newest_s, id"
        )
        rows = self._database.rows(listed, contributor, contributor)
        beyond, found = sum(samples for _, samples in rows) - most, []
        for number, samples in rows:
            if beyond <= 0:
                break
            found.append(number)
            beyond -= samples
        return found

    def contributors_beyond(self, most: int) -> list[int]:
        """Contributors with more than ``most`` samples in the pool."""
        query = (
            "SELECT contributor FROM contribution WHERE length > 0 AND first_row IS NOT NULL"
            " GROUP BY contributor HAVING sum(samples) > ?"
        )
        return [row[0] for row in self._database.rows(query, most)]

    def held(self) -> list[Held]:
        """What is in quarantine, in the order it came."""
        rows = self._database.rows(
            "SELECT contribution.id, name, message_id, samples, reason, received_s"
            " FROM contribution JOIN contributor ON contributor.id = contribution.contributor"
            " WHERE reason IS NOT NULL AND length > 0 ORDER BY 1"
        )
        return [Held(*row) for row in rows]

    def quarantined(self, number: int) -> tuple[Location, Held]:
        """Where a quarantined contribution lies, and what is known of it.

        Raises:
            StorageError: If there is none of that number.
        """
        query = "SELECT segment, offset, length FROM contribution WHERE id = ? AND reason IS NOT NULL AND length > 0"
        rows = self._database.rows(query, number)
        held = next((one for one in self.held() if one.number == number), None)
        if not rows or held is None:
            raise StorageError(f"no contribution {number} is in quarantine: see `coda cloud pool quarantine`")
        return Location(*rows[0]), held

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _unlist(database: Any, which: str, value: int) -> None:
    """``which`` is one of this module's own conditions; ``value`` is bound."""
    given = f"FROM contribution WHERE {which} AND length > 0"
    columns = "segment, offset, length, contributor, samples, first_row"
    database.execute(f"INSERT INTO erasing ({columns}) SELECT {columns} {given}", [value])
    # Not deleted: a contribution that comes again is then known, and its rows are given to nobody else.
    database.execute(f"UPDATE contribution SET length = 0 WHERE {which} AND length > 0", [value])  # noqa: S608
