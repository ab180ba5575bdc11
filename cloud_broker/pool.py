"""The global sample pool: what contributors gave, durable on disk and at hand in memory.

{directory}/pool.sqlite       who gave what when, and where it lies: a contribution exists once it is listed here
{directory}/segments/*.seg    encoded batches, appended
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.database import Database
from cloud_broker.errors import StorageError
from cloud_broker.pool_columns import PoolColumns, content_keys
from cloud_broker.segments import Location, SegmentLog
from protocol.batch_codec import decode_batch, encode_batch
from protocol.errors import ProtocolError, SchemaMismatchError
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

_TABLES = """
CREATE TABLE IF NOT EXISTS pool (id INTEGER PRIMARY KEY CHECK (id = 1), features TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS contributor (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS contribution (
    id INTEGER PRIMARY KEY, contributor INTEGER NOT NULL, message_id TEXT NOT NULL, samples INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, UNIQUE (contributor, message_id)
);
CREATE TABLE IF NOT EXISTS forgotten (
    contributor INTEGER NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY (contributor, message_id)
);
CREATE TABLE IF NOT EXISTS erasing (segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL);
"""
_Seen = set[tuple[int, int]]


@dataclass(frozen=True)
class Given:
    """Samples that one contributor gave with one message.

    Attributes:
        contributor: Its name.
        batch: The samples.
        message_id: Names the message; the same contributor's next message of that id changes nothing.
    """

    contributor: str
    batch: SampleBatch
    message_id: str


@dataclass(frozen=True)
class _New:
    """What of a gift is new, and its content keys."""

    batch: SampleBatch
    keys: NDArray[np.int64]


class SamplePool:
    """All samples, by row in the order of arrival; one writer at a time, any number of readers."""

    def __init__(self, directory: Path, schema: FeatureSchema | None = None) -> None:
        """Open the pool under ``directory``, or create it for ``schema``.

        Raises:
            StorageError: If there is none and no schema is given, or what is there cannot be read.
            SchemaMismatchError: If the pool there has other features.
        """
        self._database = Database(directory / "pool.sqlite", _TABLES)
        self.schema = self._agree_on(schema)
        self._columns = PoolColumns(self.schema)
        self._contributors: dict[str, int] = dict(self._database.rows("SELECT name, id FROM contributor"))
        # What each contributor gave: content and time, so a sample sent again under another message id is known.
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()
        self._segments = SegmentLog(directory / "segments", self._last_location())
        self._erase()
        self._load()

    def __len__(self) -> int:
        return len(self._columns)

    def add(self, contributor: str, batch: SampleBatch, message_id: str) -> int:
        """Add what one message gave; see `add_many`."""
        return self.add_many([Given(contributor, batch, message_id)])

    def add_many(self, gifts: Iterable[Given]) -> int:
        """Add samples; when this returns they are on disk, all of them or (on an error) none.

        A message that was added before, and a sample that its contributor gave before, add nothing.

        Returns:
            How many samples were new.

        Raises:
            SchemaMismatchError: If a batch has other features than the pool.
            OversizeError: If a batch exceeds the codec's bound.
            StorageError: If the disk fails.
        """
        gifts = list(gifts)
        if any(gift.batch.schema != self.schema for gift in gifts):
            raise SchemaMismatchError(f"the pool takes samples of schema {self.schema.digest}, not of another")
        with self._lock:
            return self._add(gifts)

    def forget(self, contributor: str, message_id: str) -> int:
        """Delete what a contributor gave so far, from memory and from disk.

        Its rows stay, empty and nobody's, until the pool is next opened: row numbers are in others' hands. What it gave
        does not come back if an old message comes again, and a request that comes again deletes nothing given since.

        Returns:
            How many samples were deleted.

        Raises:
            StorageError: If the disk fails; what is not yet erased is when the pool is next opened.
        """
        with self._lock:
            number = self._contributors.get(contributor)
            if number is None or not self._unlist(number, message_id):
                return 0
            self._seen.pop(contributor, None)
            samples = self._columns.forget(number)
            self._erase()
            return samples

    def batch(self) -> SampleBatch:
        """All samples by row, as a view; forgotten ones are all zeros."""
        return self._columns.batch()

    def take(self, rows: NDArray[np.int64]) -> SampleBatch:
        """The samples of ``rows``, in that order."""
        return self._columns.batch().take(rows)

    @property
    def contributors(self) -> NDArray[np.int32]:
        """Each row's contributor, as the number that `contributor_number` gives, or `FORGOTTEN`; [n]."""
        column: NDArray[np.int32] = self._columns.column("contributor")
        return column

    @property
    def content_keys(self) -> NDArray[np.int64]:
        """Each row's key of features and label: equal content, equal key; [n]."""
        column: NDArray[np.int64] = self._columns.column("content_key")
        return column

    def contributor_number(self, name: str) -> int | None:
        """The number of a contributor in `contributors`; None if it gave nothing."""
        return self._contributors.get(name)

    def time_order(self) -> NDArray[np.int64]:
        """Rows from the oldest sample to the newest; rows of equal time by arrival."""
        return np.argsort(self._columns.column("time_s"), kind="stable").astype(np.int64)

    def close(self) -> None:
        """Close the manifest."""
        self._database.close()

    def _agree_on(self, schema: FeatureSchema | None) -> FeatureSchema:
        stored = self._database.rows("SELECT features FROM pool")
        if stored:
            known = FeatureSchema.from_dict(json.loads(stored[0][0]))
            if schema is not None and schema != known:
                raise SchemaMismatchError(
                    f"the pool at {self._database.path.parent} has schema {known.digest}, not {schema.digest}: "
                    "use another directory"
                )
            return known
        if schema is None:
            raise StorageError(f"no pool at {self._database.path.parent} yet: fill it first")
        with self._database.transaction() as database:
            database.execute("INSERT INTO pool VALUES (1, ?)", [json.dumps(schema.to_dict())])
        return schema

    def _last_location(self) -> Location | None:
        rows = self._database.rows(
            "SELECT segment, offset, length FROM contribution"
            " WHERE length > 0 ORDER BY segment DESC, offset DESC LIMIT 1"
        )
        return Location(*rows[0]) if rows else None

    def _load(self) -> None:
        records = self._database.rows(
            "SELECT name, segment, offset, length FROM contribution JOIN contributor ON contributor.id = contributor"
            " WHERE length > 0 ORDER BY contribution.id"
        )
        for contributor, *location in records:
            payload = self._segments.read(Location(*location))
            try:
                batch = decode_batch(payload, self.schema)
            except ProtocolError as error:
                raise StorageError(f"the pool at {self._database.path.parent} is damaged: {error}") from error
            self._remember(contributor, _New(batch, content_keys(batch)))

    def _add(self, gifts: Sequence[Given]) -> int:
        unheard = {(gift.contributor, gift.message_id): gift for gift in gifts if not self._heard(gift)}
        news = self._news(unheard.values())
        payloads = [encode_batch(new.batch) if len(new.batch) else b"" for new in news]
        if not news:
            return 0
        locations = self._segments.append(payloads)
        with self._database.transaction() as database:
            for gift, new, at in zip(unheard.values(), news, locations, strict=True):
                _record(database, gift, len(new.batch), at)
        self._contributors = dict(self._database.rows("SELECT name, id FROM contributor"))
        for gift, new in zip(unheard.values(), news, strict=True):
            self._remember(gift.contributor, new)
        return sum(len(new.batch) for new in news)

    def _unlist(self, contributor: int, message_id: str) -> bool:
        """Take contributions off the list, and note what to erase; False if this request was acted on before."""
        with self._database.transaction() as database:
            noted = database.execute("INSERT OR IGNORE INTO forgotten VALUES (?, ?)", (contributor, message_id))
            if noted.rowcount == 0:
                return False
            given = "contribution WHERE contributor = ? AND length > 0"
            database.execute(f"INSERT INTO erasing SELECT segment, offset, length FROM {given}", (contributor,))  # noqa: S608
            # Not deleted: a contribution that comes again is then known.
            database.execute("UPDATE contribution SET samples = 0, length = 0 WHERE contributor = ?", (contributor,))
        return True

    def _erase(self) -> None:
        """Overwrite what was taken off the list; also what a crash left, before anything is appended in its place."""
        for segment, offset, length in self._database.rows("SELECT segment, offset, length FROM erasing"):
            self._segments.erase(Location(segment, offset, length))
        with self._database.transaction() as database:
            database.execute("DELETE FROM erasing")

    def _heard(self, gift: Given) -> bool:
        number = self._contributors.get(gift.contributor)
        query = "SELECT 1 FROM contribution WHERE contributor = ? AND message_id = ?"
        return number is not None and bool(self._database.rows(query, number, gift.message_id))

    def _news(self, gifts: Iterable[Given]) -> list[_New]:
        """Of each gift, the samples that its contributor gave neither before nor earlier in ``gifts``."""
        here: dict[str, _Seen] = {}
        news = []
        for gift in gifts:
            before, now = self._seen.get(gift.contributor, set()), here.setdefault(gift.contributor, set())
            keys = content_keys(gift.batch)
            rows = []
            for row, identity in enumerate(_identities(gift.batch, keys)):
                if identity not in before and identity not in now:
                    now.add(identity)
                    rows.append(row)
            chosen = np.array(rows, np.int64)
            news.append(_New(gift.batch.take(chosen), keys[chosen]))
        return news

    def _remember(self, contributor: str, new: _New) -> None:
        self._seen.setdefault(contributor, set()).update(_identities(new.batch, new.keys))
        self._columns.append(new.batch, self._contributors[contributor], new.keys)


def _identities(batch: SampleBatch, keys: NDArray[np.int64]) -> list[tuple[int, int]]:
    return list(zip(keys.tolist(), batch.time_s.tolist(), strict=True))


def _record(database: sqlite3.Connection, gift: Given, samples: int, at: Location) -> None:
    database.execute("INSERT INTO contributor (name) VALUES (?) ON CONFLICT DO NOTHING", [gift.contributor])
    database.execute(
        "INSERT INTO contribution (contributor, message_id, samples, segment, offset, length)"
        " SELECT id, ?, ?, ?, ?, ? FROM contributor WHERE name = ?",
        (gift.message_id, samples, at.segment, at.offset, at.length, gift.contributor),
    )
