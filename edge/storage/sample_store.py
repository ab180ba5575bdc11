"""The device's own samples, in encoded batches, bounded in number."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edge.storage.counters import Counters
from edge.storage.database import Database
from protocol.batch_codec import decode_batch, encode_batch
from protocol.messages import Contribution
from protocol.samples import SampleBatch, concatenate, empty_batch
from protocol.schema import FeatureSchema

MAX_LOCAL_SAMPLES = 50_000  # beyond, the oldest batches are forgotten
MAX_PIECE_BYTES = 512 << 10  # a stored batch is contributed as it is, in one message
# Events give samples one by one, but a row of a few samples takes several times their bytes, and time to read.
_SMALL_SAMPLES = 64
_JOINED_BATCHES = 64

_OLDEST = """
SELECT id, samples FROM batches WHERE id < (SELECT max(id) FROM batches) AND id IN
    (SELECT id FROM (SELECT id, sum(samples) OVER (ORDER BY id DESC) AS up_to_here FROM batches) WHERE up_to_here > ?)
"""
_LARGEST = _OLDEST.replace("sum(samples)", "sum(length(payload))")
_AGED = "SELECT id, samples FROM batches WHERE newest_s < ?"
_INSERT = "INSERT INTO batches (schema_digest, samples, newest_s, payload) VALUES (?, ?, ?, ?)"
_NEWEST = "SELECT id, samples, contributed, payload FROM batches WHERE schema_digest = ? ORDER BY id DESC LIMIT ?"
_NEW, _MADE = "samples-since-round", "samples-made"
_RETIRED = "samples-retired-by-{}"


@dataclass(frozen=True)
class Account:
    """What became of all samples that were ever added: they are here, or were retired for one of these reasons.

    Attributes:
        made: Samples ever added, since the user was last forgotten.
        number: Of these, retired as there were more than `MAX_LOCAL_SAMPLES`.
        size: Retired as all were larger than the owner allows.
        age: Retired as they were older than the owner allows.
    """

    made: int
    number: int
    size: int
    age: int

    @property
    def kept(self) -> int:
        """How many are here."""
        return self.made - self.number - self.size - self.age


class SampleStore:
    """Batches as they came, each with the digest of its schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counters = Counters(database)

    def add(self, batch: SampleBatch) -> None:
        """Keep a batch; the oldest give way where there would be more than `MAX_LOCAL_SAMPLES`.

        Raises:
            MalformedMessageError: If an id is outside its vocabulary, or a value is not finite.
            OversizeError: If the batch alone is too large.
            StoreError: If it cannot be written.
        """
        if len(batch) == 0:
            return
        digest, features = batch.schema.digest, json.dumps(batch.schema.to_dict(), sort_keys=True)
        with self._database.transaction() as rows:
            rows.execute("INSERT OR IGNORE INTO schemas VALUES (?, ?)", (digest, features))
            rows.executemany(_INSERT, [_row(digest, piece) for piece in _pieces(batch)])
            for name in (_NEW, _MADE):
                self._counters.add(name, len(batch))
            self._join_small(batch.schema)
            self._retire("number", _OLDEST, MAX_LOCAL_SAMPLES)

    def _join_small(self, schema: FeatureSchema) -> None:
        """Make one batch of the newest ones where all of them are small and none was contributed."""
        found = self._database.rows(_NEWEST, schema.digest, _JOINED_BATCHES)
        if len(found) < _JOINED_BATCHES or any(done or count > _SMALL_SAMPLES for _, count, done, _ in found):
            return
        joined = concatenate([decode_batch(payload, schema) for *_, payload in reversed(found)])
        with self._database.transaction() as rows:
            rows.executemany("DELETE FROM batches WHERE id = ?", [(row,) for row, *_ in found])
            rows.executemany(_INSERT, [_row(schema.digest, piece) for piece in _pieces(joined)])

    def retain(self, since_unix_s: float, max_bytes: int) -> None:
        """Forget batches of which every sample is older, and the oldest ones where all are larger, encoded."""
        with self._database.transaction():
            self._retire("age", _AGED, int(since_unix_s))
            self._retire("size", _LARGEST, max_bytes)

    def _retire(self, why: str, which: str, bound: int) -> None:
        """Forget the batches that a query finds, and count their samples."""
        with self._database.transaction() as rows:
            found = rows.execute(which, (bound,)).fetchall()
            rows.executemany("DELETE FROM batches WHERE id = ?", [(row,) for row, _ in found])
            self._counters.add(_RETIRED.format(why), sum(samples for _, samples in found))

    @property
    def account(self) -> Account:
        """What became of all samples."""
        made = self._counters.value(_MADE)
        return Account(made, **{why: self._counters.value(_RETIRED.format(why)) for why in ("number", "size", "age")})

    @property
    def new(self) -> int:
        """Samples that came since `note_round`."""
        return self._counters.value(_NEW)

    def note_round(self) -> None:
        """A round takes up the samples that are here: count anew."""
        self._counters.clear(_NEW)

    def all(self, schema: FeatureSchema) -> SampleBatch:
        """Every sample of ``schema``, in the order they came.

        Raises:
            ProtocolError: If a stored batch is damaged.
        """
        found = self._database.rows("SELECT payload FROM batches WHERE schema_digest = ? ORDER BY id", schema.digest)
        return concatenate([empty_batch(schema), *(decode_batch(payload, schema) for (payload,) in found)])

    @property
    def count(self) -> int:
        """Samples in all, of any schema."""
        return int(self._database.rows("SELECT coalesce(sum(samples), 0) FROM batches")[0][0])

    def count_of_other_schemas(self, schema: FeatureSchema) -> int:
        """Samples that a task with ``schema`` cannot use; they stay for one that can."""
        query = "SELECT coalesce(sum(samples), 0) FROM batches WHERE schema_digest <> ?"
        return int(self._database.rows(query, schema.digest)[0][0])

    def uncontributed(self, schema: FeatureSchema) -> list[tuple[int, Contribution]]:
        """Batches of ``schema`` that the cloud was not given yet, with their row ids."""
        query = "SELECT id, payload FROM batches WHERE schema_digest = ? AND NOT contributed ORDER BY id"
        return [(row, Contribution(payload)) for row, payload in self._database.rows(query, schema.digest)]

    def mark_contributed(self, row: int) -> None:
        """Remember that a batch was queued for the cloud; call it in the transaction that queues it."""
        with self._database.transaction() as rows:
            rows.execute("UPDATE batches SET contributed = 1 WHERE id = ?", (row,))


_Piece = tuple[int, int, bytes]


def _row(digest: str, piece: _Piece) -> tuple[str, int, int, bytes]:
    return digest, *piece


def _pieces(batch: SampleBatch) -> list[_Piece]:
    """Samples, newest time and bytes of each part of a batch, cut until none exceeds `MAX_PIECE_BYTES`."""
    payload = encode_batch(batch)
    if len(payload) <= MAX_PIECE_BYTES or len(batch) == 1:
        return [(len(batch), int(batch.time_s.max()), payload)]
    middle = len(batch) // 2
    return _pieces(batch.take(slice(None, middle))) + _pieces(batch.take(slice(middle, None)))
