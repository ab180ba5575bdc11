"""The device's own samples, in encoded batches, bounded in number."""

from __future__ import annotations

import json

from edge.database import Database
from protocol.batch_codec import decode_batch, encode_batch
from protocol.messages import Contribution
from protocol.samples import SampleBatch, concatenate, empty_batch
from protocol.schema import FeatureSchema

MAX_LOCAL_SAMPLES = 50_000  # beyond, the oldest batches are forgotten
MAX_PIECE_BYTES = 512 << 10  # a stored batch is contributed as it is, in one message
# Events give samples one by one, but a row of a few samples takes several times their bytes, and time to read.
_SMALL_SAMPLES = 64
_JOINED_BATCHES = 64

_FORGET_OLDEST = """
DELETE FROM batches WHERE id < (SELECT max(id) FROM batches) AND id IN
    (SELECT id FROM (SELECT id, sum(samples) OVER (ORDER BY id DESC) AS up_to_here FROM batches) WHERE up_to_here > ?)
"""
_FORGET_LARGEST = _FORGET_OLDEST.replace("sum(samples)", "sum(length(payload))")
_INSERT = "INSERT INTO batches (schema_digest, samples, newest_s, payload) VALUES (?, ?, ?, ?)"
_NEWEST = "SELECT id, samples, contributed, payload FROM batches WHERE schema_digest = ? ORDER BY id DESC LIMIT ?"
_NEW = "samples-since-round"
_COUNT = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"


class SampleStore:
    """Batches as they came, each with the digest of its schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            rows.execute(_COUNT, (_NEW, len(batch)))
            self._join_small(batch.schema)
            rows.execute(_FORGET_OLDEST, (MAX_LOCAL_SAMPLES,))

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
        with self._database.transaction() as rows:
            rows.execute("DELETE FROM batches WHERE newest_s < ?", (int(since_unix_s),))
            rows.execute(_FORGET_LARGEST, (max_bytes,))

    @property
    def new(self) -> int:
        """Samples that came since `note_round`."""
        found = self._database.rows("SELECT value FROM counters WHERE name = ?", _NEW)
        return int(found[0][0]) if found else 0

    def note_round(self) -> None:
        """A round takes up the samples that are here: count anew."""
        with self._database.transaction() as rows:
            rows.execute("DELETE FROM counters WHERE name = ?", (_NEW,))

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
