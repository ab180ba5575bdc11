"""Answering what devices ask for themselves: matched samples, and rows of a table.

What is small enough for the asker comes in the answer itself and is kept nowhere. What is larger, or for a device that
knows no such answers, is put ready to be pulled, see `cloud_broker.workers.answer_store`.
"""

from __future__ import annotations

from collections.abc import Callable

from cloud_broker.matching.byte_budget import encode_within
from cloud_broker.matching.matcher import Rows
from cloud_broker.matching.versions import Versions
from cloud_broker.pool.columns import FORGOTTEN
from cloud_broker.telling import OnEvent
from cloud_broker.workers.answer_store import AnswerStore
from protocol import messages
from protocol.chunks import blob_ref
from protocol.messages import BlobRef, Match, Query, RowsRequest
from protocol.rows import encode_rows
from protocol.topics import MAX_BLOB_BYTES

_MAX_ROW_BLOBS = 100_000


class Answering:
    """Makes answers; safe to use from several threads."""

    def __init__(
        self, versions: Versions, answers: AnswerStore, tell: OnEvent, *, hurried: Callable[[], bool] = lambda: False
    ) -> None:
        """Prepare.

        Args:
            versions: The pool as each model sees it, and who matches what in it.
            answers: Keeps what is to be pulled.
            tell: Told ``matched`` and ``rows``.
            hurried: Whether many wait: then matched samples are packed in less time and more bytes.
        """
        self._versions, self._answers, self._tell, self._hurried = versions, answers, tell, hurried
        self._row_blobs: set[str] = set()

    def match(self, query: Query, device: str) -> Match:
        """Samples for a device; to the same query the same, unless the pool has changed.

        Raises:
            UnknownModelError, MalformedMessageError: As `SampleIndex.rank`.
            StorageError: If what is to be pulled cannot be written.
        """
        while (match := self._try_match(query, device)) is None:
            pass
        return match

    def rows(self, request: RowsRequest, device: str) -> messages.Rows:
        """Rows of the model's table, by shard.

        Raises:
            UnknownModelError: If this cloud's model holds its rows itself, or is another.
            StorageError: If they cannot be written.
        """
        block = self._versions.rows_of_version(request.version).shards(request.version, request.shards)
        payload = encode_rows(block, zstd=request.zstd)
        self._tell({"event": "rows", "device": device, "rows": len(block), "size_bytes": len(payload)})
        return messages.Rows(request.request_id, self._put_rows(payload, device))

    def made_of_rows(self, sha256: str) -> bool:
        """Whether an answer is rows of a table, as far as this process knows."""
        return sha256 in self._row_blobs

    def _try_match(self, query: Query, device: str) -> Match | None:
        """Choose samples; None if one of their contributors was forgotten meanwhile."""
        pool, bound = self._versions.pool, min(query.max_bytes, MAX_BLOB_BYTES)
        ranked = self._versions.rank(query, device)
        rows, payload = encode_within(pool.take, ranked, bound, zstd=query.zstd, quick=self._hurried())
        contributors = pool.contributors[rows]
        inline = 0 < len(payload) <= (query.inline_bytes or 0)
        blob = None
        if payload:
            blob = blob_ref(payload) if inline else self._answers.put(payload, device, contributors)
        # Looked at after it was put there: whoever is forgotten from now on is looked for among what is there.
        if blob is not None and (pool.contributors[rows] == FORGOTTEN).any():
            self._answers.drop(blob.sha256, device)
            return None
        match = Match(
            query.query_id,
            len(rows),
            blob,
            self._rows_of(rows, query, device) if blob is not None else None,
            payload if inline else None,
        )
        self._tell({"event": "matched", "device": device, "samples": len(rows), "size_bytes": len(payload)})
        return match

    def _rows_of(self, matched: Rows, query: Query, device: str) -> BlobRef | None:
        """The rows of the matched samples' items, ready to be pulled; None where the model's file holds them."""
        rows = self._versions.rows_of(query.model_sha256)
        if rows is None:
            return None
        block = rows.of_samples(self._versions.pool.take(matched))
        return self._put_rows(encode_rows(block, zstd=query.zstd), device)

    def _put_rows(self, payload: bytes, device: str) -> BlobRef:
        ref = self._answers.put(payload, device)
        if len(self._row_blobs) >= _MAX_ROW_BLOBS:
            self._row_blobs.clear()  # those still pulled count as samples
        self._row_blobs.add(ref.sha256)
        return ref
