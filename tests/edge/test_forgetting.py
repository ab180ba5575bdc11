"""Forgetting the user: what goes, what stays, and a round that goes on meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ForgottenError
from edge.feedback.events import Event, EventKind
from edge.feedback.histories import LIKED
from edge.feedback.labelling import EventRules
from edge.forgetting import forget_user
from edge.learning.recommender import Personal
from edge.storage.artefacts import Artefacts
from edge.storage.round_store import DONE
from edge.storage.store import Store
from edge.storage.store_copy import keep_copy
from edge.updates.release_state import ReleaseFolder
from protocol.envelope import decode
from protocol.messages import BlobRef, Contribution, Forget, Task
from protocol.recipe import Recipe
from protocol.rows import RowBlock
from tests.edge.samples import SCHEMA, samples

SHA = "a" * 64
SECRET = "a-name-that-is-nowhere-else"


def _task(version: int = 1) -> Task:
    return Task(version, SCHEMA.to_dict(), Recipe().to_dict(), BlobRef(SHA, 10), BlobRef("b" * 64, 10))


def _lived_in(store: Store) -> None:
    """A device with samples, events, a personal model, rows, a letter and a finished round."""
    stored = store.rounds.begin(_task(), "sync")
    rows = RowBlock("c" * 64, np.array([7], np.int32), np.ones((1, 3), np.float32))
    store.rounds.serve(SHA, stored.round_id, Personal({"w": np.ones(2, np.float32)}, rows))
    store.rounds.close(stored.round_id, DONE)
    store.rows.put(rows)
    store.samples.add(samples(50))
    store.events.add([Event(EventKind.CLICK, 2, 10**9, event_id=SECRET)], SCHEMA, EventRules(keep_days=36500))
    store.events.add([Event(EventKind.CLICK, 4, 10**9)], None, EventRules())
    store.outbox.add(Contribution(b"samples"))
    store.blobs.path("d" * 64).write_bytes(b"matched samples")
    store.blobs.path(SHA).write_bytes(b"the model")
    store.log.write({"event": "something"})


def test_nothing_of_the_user_stays_but_the_request_to_the_cloud(tmp_path: Path) -> None:
    """Samples, events, histories, personal weights and rows, letters, matched samples and the log are gone."""
    with Store(tmp_path) as store:
        _lived_in(store)
        found = forget_user(store)
        assert (found.samples, found.events, found.letters) == (51, 1, 1)
        assert (found.personal_model, found.round_id) == (True, None)
        (letter,) = store.outbox.pending()
        assert decode("up", letter.kind, letter.payload).message == Forget()
        assert len(store.samples.all(SCHEMA)) == store.samples.new == store.events.waiting == 0
        assert store.events.histories.newest(LIKED, 9) == []
        serving = store.rounds.serving()
        assert serving is not None
        assert (serving.model_sha256, serving.personal) == (SHA, None)
        assert store.rows.missing("c" * 64, np.array([7], np.int32)).tolist() == [7]
        assert store.blobs.whole() == (SHA,)
        assert store.rounds.last_version() == 1
        assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert not list(tmp_path.glob("events*"))


def test_what_was_deleted_before_is_not_left_in_free_pages(tmp_path: Path) -> None:
    """Events that waited and were labelled long before the user is forgotten, a second time too."""
    with Store(tmp_path) as store:
        for _ in range(2):
            events = [Event(EventKind.IMPRESSION, 2, 10**9, f"{SECRET}-{number}") for number in range(300)]
            store.events.add(events, None, EventRules())
            store.events.label_waiting(SCHEMA, EventRules(keep_days=36500))
            forget_user(store)
            assert SECRET.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_a_log_that_somebody_reads_is_wiped_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first transaction after they have gone."""
    monkeypatch.setattr("edge.storage.database._BUSY_MS", 1)
    log = tmp_path / "device.db-wal"
    with Store(tmp_path) as store:
        store.events.add([Event(EventKind.CLICK, 4, 10**9, event_id=SECRET)], None, EventRules())
        with closing(sqlite3.connect(tmp_path / "device.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM event_ids").fetchall()
            assert forget_user(store).events == 1
            assert SECRET.encode() in log.read_bytes()
        store.outbox.add(Contribution(b"samples"))
        assert SECRET.encode() not in log.read_bytes() + (tmp_path / "device.db").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE serving SET weights = x'0102'",
        "UPDATE serving SET weights = 'abc'",
        "UPDATE serving SET rows = x'00'",
        "UPDATE rounds SET task = x'00'",
        "UPDATE rounds SET task = 'abc'",
        "UPDATE batches SET payload = x'00', samples = 'many'",
        "UPDATE counters SET value = 'x'",
        "UPDATE outbox SET payload = 5, queued_unix_s = 'x'",
    ],
)
def test_what_is_damaged_is_forgotten_too(tmp_path: Path, damage: str) -> None:
    """The user's right to be forgotten does not depend on what is left being readable."""
    with Store(tmp_path) as store:
        _lived_in(store)
    with closing(sqlite3.connect(tmp_path / "device.db")) as rows:
        rows.execute(damage)
        rows.commit()
    with Store(tmp_path) as store:
        found = forget_user(store)
        assert (found.events, found.letters, found.personal_model) == (1, 1, True)
        assert [letter.kind for letter in store.outbox.pending()] == ["forget"]
        assert (store.samples.count, store.blobs.whole()) == (0, (SHA,))
        serving = store.rounds.serving()
        assert serving is not None
        assert serving.personal is None


def test_forgetting_twice_forgets_nothing_more(tmp_path: Path) -> None:
    """The request that waits is replaced by one that says the same."""
    with Store(tmp_path) as store:
        _lived_in(store)
        forget_user(store)
        assert forget_user(store).samples == 0
        assert [letter.kind for letter in store.outbox.pending()] == ["forget"]


def test_a_round_that_goes_on_ends_and_keeps_nothing(tmp_path: Path) -> None:
    """Whatever it does next says so, and no personal model of it can come to be served."""
    with Store(tmp_path) as store:
        stored = store.rounds.begin(_task(), "sync")
        kept = Artefacts(store.rounds, stored.round_id)
        kept.save_local(samples(20))
        store.samples.add(samples(20))
        assert forget_user(store).round_id == stored.round_id
        for step in (
            lambda: kept.save_local(samples(20)),
            lambda: store.rounds.advance(stored.round_id, "query", ()),
            lambda: store.rounds.count_attempt(stored.round_id),
        ):
            with pytest.raises(ForgottenError):
                step()
        assert store.rounds.unfinished() is None
        assert store.rounds.last_version() is None


def test_what_an_update_keeps_forgets_too(tmp_path: Path) -> None:
    """Samples to try a release with are gone; the database of before its trial holds the request and no user."""
    releases = ReleaseFolder(tmp_path)
    releases.path.mkdir()
    with Store(tmp_path) as store:
        _lived_in(store)
        keep_copy(tmp_path, releases.database_copy)
        releases.canary.write_bytes(b"samples")
        forget_user(store)
        request = store.outbox.pending()
    assert not releases.canary.exists()
    content = releases.database_copy.read_bytes()
    assert SECRET.encode() not in content
    releases.database_copy.replace(tmp_path / "device.db")
    with Store(tmp_path) as store:
        assert (store.samples.count, store.events.waiting) == (0, 0)
        assert store.outbox.pending() == request
        serving = store.rounds.serving()
        assert serving is not None
        assert serving.personal is None
