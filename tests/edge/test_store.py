"""What a device remembers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.errors import StoreError
from edge.learning.recommender import Personal
from edge.storage import sample_store
from edge.storage.arrays import pack_arrays, unpack_arrays
from edge.storage.database import Database
from edge.storage.layout import MIGRATIONS
from edge.storage.round_store import ABANDONED, DONE
from edge.storage.store import Store
from edge.tunnel import outbox as outbox_module
from edge.tunnel.outbox import Outbox
from profiling.record import Outcome, PhaseRecord, RoundRecord
from protocol.envelope import decode
from protocol.errors import MalformedMessageError, OversizeError
from protocol.messages import BlobRef, Contribution, Hello, Report, Task
from protocol.recipe import Recipe
from protocol.rows import RowBlock
from protocol.samples import concatenate
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.edge.samples import SCHEMA, samples

SHA = "a" * 64


def _task(version: int = 1) -> Task:
    return Task(version, SCHEMA.to_dict(), Recipe().to_dict(), BlobRef(SHA, 10), BlobRef("b" * 64, 10))


def _record(round_id: str) -> RoundRecord:
    outcome = Outcome("kept-h0", "no gain", 1, 2, 3)
    return RoundRecord(round_id, "d1", 1, 0.0, {}, {}, (PhaseRecord("sync", 1.0, 0.5, 0.1),), outcome)


class TestSamples:
    """The device's own samples."""

    def test_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Batches join in the order they came, also after the store was closed."""
        first, second = samples(5), samples(7, seed=1)
        with Store(tmp_path) as store:
            store.samples.add(first)
            store.samples.add(second)
        with Store(tmp_path) as store:
            kept = store.samples.all(SCHEMA)
        for (name, got), (_, wanted) in zip(kept.columns(), concatenate([first, second]).columns(), strict=True):
            assert (got == wanted).all(), name

    def test_of_another_schema_stay_apart(self, tmp_path: Path) -> None:
        """A task with other features sees none of them, and is told how many there are."""
        other = FeatureSchema((Feature("item", FeatureKind.CATEGORICAL, 1, 60, "item"),))
        with Store(tmp_path) as store:
            store.samples.add(samples(5))
            assert len(store.samples.all(other)) == 0
            assert store.samples.count_of_other_schemas(other) == 5
            assert store.samples.count_of_other_schemas(SCHEMA) == 0

    def test_that_are_not_sound_are_refused(self, tmp_path: Path) -> None:
        """An id outside its vocabulary never reaches the disk."""
        bad = samples(3)
        bad.features["item"][0] = 10**6
        with Store(tmp_path) as store:
            with pytest.raises(MalformedMessageError, match="item"):
                store.samples.add(bad)
            assert len(store.samples.all(SCHEMA)) == 0

    def test_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest batches give way; the newest stays, however large."""
        monkeypatch.setattr(sample_store, "MAX_LOCAL_SAMPLES", 10)
        with Store(tmp_path) as store:
            for seed in range(4):
                store.samples.add(samples(4, seed=seed))
            assert len(store.samples.all(SCHEMA)) == 8
            store.samples.add(samples(30))
            assert len(store.samples.all(SCHEMA)) == 30

    def test_are_cut_to_fit_a_message(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A large batch is kept in pieces, in order, each of which one message can carry."""
        monkeypatch.setattr(sample_store, "MAX_PIECE_BYTES", 2000)
        with Store(tmp_path) as store:
            store.samples.add(samples(300))
            pieces = store.samples.uncontributed(SCHEMA)
            assert len(pieces) > 1
            assert max(len(piece.samples) for _, piece in pieces) <= 2000
            assert (store.samples.all(SCHEMA).time_s == samples(300).time_s).all()

    def test_are_all_accounted_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was made is kept, or was retired for a reason that is counted; also what an older program made."""
        monkeypatch.setattr(sample_store, "MAX_LOCAL_SAMPLES", 250)
        batch = samples(100)
        with Store(tmp_path) as store:
            for _ in range(4):
                store.samples.add(batch)
            store.samples.retain(0.0, 1)  # the newest batch is kept, however large
            by_size = store.samples.account
            store.samples.retain(1e12, 1 << 20)
            found = store.samples.account
        assert (by_size.made, by_size.number, by_size.size, by_size.age, by_size.kept) == (400, 200, 100, 0, 100)
        assert (found.age, found.kept) == (100, 0)
        with Database(tmp_path / "old.db", MIGRATIONS[:4]) as database, database.transaction() as rows:
            rows.execute("INSERT INTO schemas VALUES ('s', '{}')")
            rows.execute("INSERT INTO batches (schema_digest, samples, payload) VALUES ('s', 7, x'')")
        with Database(tmp_path / "old.db") as database:
            assert sample_store.SampleStore(database).account.made == 7

    def test_are_contributed_once(self, tmp_path: Path) -> None:
        """A batch that was queued is not queued again."""
        with Store(tmp_path) as store:
            store.samples.add(samples(4))
            [(row, contribution)] = store.samples.uncontributed(SCHEMA)
            assert isinstance(contribution, Contribution)
            store.samples.mark_contributed(row)
            assert store.samples.uncontributed(SCHEMA) == []


class TestRounds:
    """Rounds and the served model."""

    def test_an_unfinished_round_is_found_again(self, tmp_path: Path) -> None:
        """Its name, task, state, artefacts and costs survive."""
        with Store(tmp_path) as store:
            begun = store.rounds.begin(_task(), "sync")
            store.rounds.save(begun.round_id, "match", b"abc")
            store.rounds.advance(begun.round_id, "query", [PhaseRecord("sync", 1.0, 0.5, 0.1)])
            assert store.rounds.count_attempt(begun.round_id) == 1
        with Store(tmp_path) as store:
            found = store.rounds.unfinished()
            assert found is not None
            assert (found.round_id, found.task, found.state) == (begun.round_id, _task(), "query")
            assert store.rounds.count_attempt(begun.round_id) == 2
            assert store.rounds.load(begun.round_id, "match") == b"abc"
            assert [phase.name for phase in store.rounds.phases(begun.round_id)] == ["sync"]

    def test_a_finished_round_leaves_its_record_alone(self, tmp_path: Path) -> None:
        """Artefacts go, the record stays, and its task counts as done."""
        with Store(tmp_path) as store:
            assert store.rounds.last_version() is None
            begun = store.rounds.begin(_task(3), "sync")
            store.rounds.save(begun.round_id, "match", b"abc")
            store.rounds.close(begun.round_id, DONE, _record(begun.round_id))
            assert store.rounds.unfinished() is None
            assert store.rounds.load(begun.round_id, "match") is None
            assert store.rounds.records() == [_record(begun.round_id)]
            assert store.rounds.last_version() == 3

    def test_a_round_of_an_older_program_is_closed(self, tmp_path: Path) -> None:
        """A stored task that this version cannot read does not stop the device."""
        with Store(tmp_path) as store:
            begun = store.rounds.begin(_task(), "tune")
            with store.transaction() as rows:
                payload = rows.execute("SELECT task FROM rounds").fetchone()[0].replace(b"\xa1v\x01", b"\xa1v\x63")
                rows.execute("UPDATE rounds SET task = ?", (payload,))
            assert store.rounds.unfinished() is None
            with store.transaction() as rows:
                state = rows.execute("SELECT state FROM rounds WHERE round_id = ?", (begun.round_id,)).fetchone()
            assert state == (ABANDONED,)

    def test_the_served_model_survives(self, tmp_path: Path) -> None:
        """Personal weights come back bit by bit; h0 is served without any."""
        weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((), np.float32)}
        block = RowBlock("c" * 64, np.array([3, 70_000], np.int32), np.ones((2, 5), np.float32))
        with Store(tmp_path) as store:
            assert store.rounds.serving() is None
            store.rounds.serve(SHA, "r1", Personal(weights, block))
        with Store(tmp_path) as store:
            serving = store.rounds.serving()
            assert serving is not None
            assert serving.personal is not None
            assert (serving.model_sha256, serving.round_id) == (SHA, "r1")
            assert (serving.personal.weights["a"] == weights["a"]).all()
            assert serving.personal.weights["b"].shape == ()
            assert serving.personal.rows is not None
            assert serving.personal.rows.version == block.version
            assert serving.personal.rows.ids.tolist() == [3, 70_000]
            assert (serving.personal.rows.values == block.values).all()
            store.rounds.serve(SHA, "r2", None)
            again = store.rounds.serving()
            assert again is not None
            assert again.personal is None

    def test_changes_stand_or_fall_together(self, tmp_path: Path) -> None:
        """A transaction that raises leaves nothing, nested ones included."""

        def fail(store: Store, round_id: str) -> None:
            with store.transaction():
                store.rounds.serve(SHA, "r1", None)
                store.rounds.save(round_id, "outcome", b"x")
                raise RuntimeError("power cut")

        with Store(tmp_path) as store:
            begun = store.rounds.begin(_task(), "gate")
            with pytest.raises(RuntimeError, match="power cut"):
                fail(store, begun.round_id)
            assert store.rounds.serving() is None
            assert store.rounds.load(begun.round_id, "outcome") is None


class TestOutbox:
    """Messages on their way to the cloud."""

    def test_keeps_letters_until_they_are_accepted(self, tmp_path: Path) -> None:
        """In order, as the bytes that travel, also across a restart; removing twice is no error."""
        with Store(tmp_path) as store:
            first = store.outbox.add(Report("r1", 1, {}))
            second = store.outbox.add(Report("r2", 1, {}))
        with Store(tmp_path) as store:
            pending = store.outbox.pending()
            assert [letter.message_id for letter in pending] == [first, second]
            envelope = decode("up", "report", pending[0].payload)
            assert envelope.message_id == first
            assert envelope.message == Report("r1", 1, {})
            store.outbox.remove(first)
            store.outbox.remove(first)
            assert first not in store.outbox
            assert second in store.outbox

    def test_is_bounded(self, tmp_path: Path) -> None:
        """The oldest reports give way to newer messages, contributions never do."""
        with Store(tmp_path / "s"), Database(tmp_path / "box.db") as database:
            box = Outbox(database, limit_bytes=2000)
            box.add(Contribution(b"c" * 900))
            reports = [box.add(Report(f"r{n}", 1, {"x": "y" * 300})) for n in range(4)]
            assert box.size_bytes <= 2000
            assert reports[0] not in box
            assert reports[-1] in box
            with pytest.raises(StoreError, match="must reach its broker"):
                box.add(Contribution(b"c" * 1500))
            assert [letter.kind for letter in box.pending()].count("contribution") == 1

    def test_refuses_what_the_tunnel_would_not_take(self, tmp_path: Path) -> None:
        """An oversize message is refused here, by its size, before anything is queued."""
        with Store(tmp_path) as store:
            with pytest.raises(OversizeError):
                store.outbox.add(Contribution(bytes(2 << 20)))
            assert store.outbox.pending() == []

    def test_limit_is_stated(self) -> None:
        """The default bound leaves a small board's disk alone."""
        assert outbox_module.MAX_OUTBOX_BYTES <= 64 << 20


def test_arrays_are_never_unpickled() -> None:
    """Bytes that hold Python objects are refused."""
    evil = pack_arrays({"a": np.array([{"x": 1}], dtype=object)})
    with pytest.raises(StoreError, match="damaged"):
        unpack_arrays(evil)
    with pytest.raises(StoreError, match="damaged"):
        unpack_arrays(b"PK nothing")
    assert json.dumps(Hello("1", "r", "b", ()).models) == "[]"
