"""Forgetting the device's user: what was learnt from them goes, from the disk and, as a request, from the cloud.

What stays is what others own or what says nothing of them: the shared model, the records of finished rounds (counts,
costs, and how well the gate found the model to do), and the bytes used. Copies that other devices pulled of contributed
samples, and models trained on them, are out of reach.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass

from edge.storage.round_store import ABANDONED, DONE
from edge.storage.store import Store
from edge.tunnel.outbox import Letter
from edge.updates.release_state import ReleaseFolder
from protocol.messages import Forget

_WIPED = ("batches", "event_ids", "waiting_events", "exposures", "history", "counters", "outbox")

_COUNTS = (
    "SELECT CAST(coalesce(sum(samples), 0) AS INTEGER) FROM batches",
    "SELECT count(*) FROM waiting_events",
    "SELECT count(*) FROM outbox",
    "SELECT count(*) FROM serving WHERE weights IS NOT NULL",
)


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten.

    Attributes:
        samples: The user's.
        events: That waited to become samples.
        letters: That waited for the cloud.
        personal_model: Whether one was served; h0 is now.
        round_id: The round that was cut; None for none.
    """

    samples: int
    events: int
    letters: int
    personal_model: bool
    round_id: str | None


def forget_user(store: Store) -> Forgotten:
    """Forget the user; on disk when this returns. A round that goes on meanwhile ends with `ForgottenError`.

    Raises:
        StoreError: If the disk fails; nothing was forgotten then.
    """
    with store.wiping() as rows:
        # Counted without reading what is counted: what is damaged is forgotten like the rest.
        samples, events, letters, personal = (int(rows.execute(query).fetchone()[0]) for query in _COUNTS)
        round_id = store.rounds.unfinished_id()
        for table in _WIPED:
            rows.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
        rows.execute("DELETE FROM table_rows WHERE id != 0")  # which ids are here tells what the user's were
        rows.execute("UPDATE serving SET weights = NULL, rows = NULL")
        if round_id is not None:
            rows.execute("DELETE FROM rounds WHERE round_id = ?", (round_id,))
        request = store.outbox.add(Forget())
    _forget_in_copies(ReleaseFolder(store.folder), store.outbox.letter(request))
    store.events.histories.reload()
    store.log.clear()
    if round_id is None:
        forget_blobs(store)
    return Forgotten(samples, events, letters, personal > 0, round_id)


def _forget_in_copies(releases: ReleaseFolder, request: Letter | None) -> None:
    """Also what an update keeps: samples to try a release with, and the database of before its trial."""
    releases.canary.unlink(missing_ok=True)
    if request is None or not releases.database_copy.exists():
        return
    try:
        with closing(sqlite3.connect(releases.database_copy)) as copy:
            copy.execute("PRAGMA secure_delete=ON")
            copy.execute("PRAGMA foreign_keys=ON")
            for table in (*_WIPED, "table_rows"):
                copy.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
            copy.execute("UPDATE serving SET weights = NULL, rows = NULL")
            copy.execute("DELETE FROM rounds WHERE state NOT IN (?, ?)", (DONE, ABANDONED))
            letter = (request.message_id, request.kind, request.payload, time.time())
            copy.execute("INSERT INTO outbox (message_id, kind, payload, queued_unix_s) VALUES (?, ?, ?, ?)", letter)
            copy.commit()
    except sqlite3.Error:
        releases.database_copy.unlink(missing_ok=True)  # rather none than one that remembers


def forget_blobs(store: Store) -> None:
    """Delete the matched samples, which tell what the user's are like; not while a round may be reading them."""
    store.blobs.keep_only(store.rounds.models())
