"""Bringing rows of a model's large table here: by shard for the device's own items, as a blob for matched samples'."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import RoundError
from edge.storage.store import Store
from edge.tunnel.session import Session
from protocol.errors import OversizeError
from protocol.messages import BlobRef, Message, Rows, RowsRequest
from protocol.rows import MAX_SHARDS, ROWS_PER_SHARD, TableRows, decode_rows, shards_of
from protocol.samples import SampleBatch
from protocol.slots import SlotMap

Fetch = Callable[[BlobRef], Path]

_HEADER_BYTES = 1024


def ids_with_slots(table: TableRows, *batches: SampleBatch) -> NDArray[np.int32]:
    """The ids that get slots where samples are admitted in this order; 0 is one of them."""
    slots = SlotMap(batches[0].schema, table)
    for batch in batches:
        slots.admit(batch)
    return slots.ids


def take_rows(store: Store, table: TableRows, ref: BlobRef, max_rows: int, fetch: Fetch) -> None:
    """Fetch a row block into the store.

    Raises:
        OversizeError: If it is larger than ``max_rows`` rows can be.
        SchemaMismatchError: If it is of another model's version.
    """
    limit_bytes = _HEADER_BYTES + max_rows * 4 * (table.width + 1)
    if ref.size_bytes > limit_bytes:
        raise OversizeError(f"rows of {table.table}", ref.size_bytes, limit_bytes)
    store.rows.put(decode_rows(fetch(ref).read_bytes(), table, max_rows=max_rows))
    store.blobs.discard(ref.sha256)  # what it held is in the database


def bring_rows(session: Session, store: Store, table: TableRows, ids: NDArray[np.int32], fetch: Fetch) -> None:
    """Ask for the shards of those ids whose rows are not here; what has come stays, so a cut costs only the rest.

    Raises:
        RefusedError: If the cloud has no rows of this version.
        RoundError: If it leaves some out.
    """
    shards = shards_of(store.rows.missing(table.version, ids)).tolist()
    for begin in range(0, len(shards), MAX_SHARDS):
        asked = tuple(shards[begin : begin + MAX_SHARDS])
        answer = _ask(session, RowsRequest(uuid.uuid4().hex, table.version, asked))
        take_rows(store, table, answer.rows, len(asked) * ROWS_PER_SHARD, fetch)
    if len(missing := store.rows.missing(table.version, ids)):
        raise RoundError(f"the cloud's rows of {table.table} lack {len(missing)} of {len(ids)} ids: {missing[:4]}")


def _ask(session: Session, request: RowsRequest) -> Rows:
    def is_answer(message: Message) -> bool:
        return isinstance(message, Rows) and message.request_id == request.request_id

    with session.ask(request, is_answer) as answer:
        assert isinstance(answer, Rows)
        return answer
