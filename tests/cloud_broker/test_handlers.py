"""What the cloud answers, without a network: every message once, anything else a refusal."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.pool.columns import content_keys
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.book import TaskBook
from cloud_broker.workers.answer_store import LIFETIME_S, AnswerStore
from cloud_broker.workers.answers import Outgoing
from cloud_broker.workers.handlers import Handlers
from protocol import envelope, topics
from protocol.batch_codec import decode_batch, encode_batch
from protocol.chunks import blob_ref, pieces_of
from protocol.messages import (
    Accepted,
    Chunk,
    Contribution,
    Forget,
    Hello,
    Match,
    Message,
    Offer,
    Presence,
    Pull,
    Query,
    Refusal,
    RefusalCode,
    Report,
    Task,
)  # fmt: skip
from protocol.recipe import Recipe
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema
from protocol.topics import CHUNK_SIZES
from tests.cloud_broker.conftest import model_and_versions, query_for
from tests.cloud_broker.samples import SCHEMA, user_samples

HELLO = Hello("coda 0.1", "tflite 2.14", "board", ())


class Cloud:
    """Handlers over real parts, spoken to as a device speaks."""

    def __init__(self, state_dir: Path) -> None:
        self.registry: Registry
        self.model: PublishedModel
        self.versions: Versions
        self.registry, self.model, self.versions = model_and_versions(state_dir)
        self.index = self.versions.newest
        self.tasks = TaskBook(state_dir)
        self.tasks.make_current(SCHEMA, Recipe(), self.model.recommender, self.model.classifier)
        self.ledger = Ledger(state_dir)
        self.events: list[dict[str, Any]] = []
        self.answers = AnswerStore(state_dir)
        self.handlers = Handlers(
            self.registry, self.versions, self.tasks, self.ledger, self.events.append, answers=self.answers
        )

    def hear(self, message: Message, message_id: str = "m1", device: str = "dev-a") -> list[Outgoing]:
        """What is answered to a message."""
        return self.raw(envelope.encode(message, message_id), message.kind, device)

    def raw(self, payload: bytes, kind: str, device: str = "dev-a") -> list[Outgoing]:
        """What is answered to any bytes."""
        return self.handlers.respond(topics.up("test", device, kind), payload)

    def query(self, user: int = 1, query_id: str = "q1") -> Query:
        """A query of a device whose samples are like that user's."""
        return query_for(self.registry, self.model, user_samples(user), query_id)


@pytest.fixture
def cloud(state_dir: Path) -> Cloud:
    """A cloud that has published."""
    return Cloud(state_dir)


def only(outgoing: list[Outgoing]) -> Any:
    """The one message answered."""
    assert len(outgoing) == 1
    return outgoing[0].message


def test_hello_is_answered_by_the_task_once(cloud: Cloud) -> None:
    """An unknown device gets the current task, retained; afterwards the broker has it, and hello is only noted."""
    (answer,) = cloud.hear(HELLO)
    assert (answer.device, answer.retain) == ("dev-a", True)
    assert answer.message == cloud.tasks.current()
    assert cloud.hear(HELLO, "m2") == []
    assert cloud.ledger.devices()["dev-a"]["board"] == "board"


def test_presence_is_noted(cloud: Cloud) -> None:
    """Coming and going is remembered; it needs no answer."""
    assert cloud.hear(Presence(True)) == []
    assert cloud.ledger.devices()["dev-a"]["online"] is True
    cloud.hear(Presence(False), "m2")
    assert cloud.ledger.devices()["dev-a"]["online"] is False


def test_a_query_is_answered_by_samples_that_can_be_pulled(cloud: Cloud) -> None:
    """The match names a blob whose chunks join to the samples of contributors of like taste."""
    match = only(cloud.hear(cloud.query(user=100)))
    assert isinstance(match, Match)
    assert match.samples is not None
    chunk = only(cloud.hear(Pull(match.samples.sha256, (0,)), "m2"))
    assert isinstance(chunk, Chunk)
    samples = decode_batch(chunk.data, SCHEMA)
    assert len(samples) == match.count == 50
    pool = cloud.index.pool
    taken = np.isin(pool.batch().time_s, samples.time_s) & np.isin(
        pool.batch().features["item"], samples.features["item"]
    )
    assert taken.sum() >= 50


def test_an_answer_holds_the_samples_where_the_asker_wants_them_so(cloud: Cloud) -> None:
    """The same samples as would be pulled, and nothing waits to be pulled then; what is larger than asked for does."""
    pulled = only(cloud.hear(cloud.query(user=100)))
    size_bytes = pulled.samples.size_bytes
    inline = only(cloud.hear(replace(cloud.query(user=100), inline_bytes=size_bytes), "m2", "dev-b"))
    assert (inline.samples, blob_ref(inline.data)) == (pulled.samples, pulled.samples)
    assert len(decode_batch(inline.data, SCHEMA)) == inline.count
    assert not cloud.answers.holds(inline.samples.sha256, "dev-b")
    assert only(cloud.hear(replace(cloud.query(user=100), inline_bytes=size_bytes - 1), "m3")) == pulled


def test_an_answer_is_no_other_devices(cloud: Cloud) -> None:
    """Knowing its digest is not enough to pull what was made for another."""
    match = only(cloud.hear(cloud.query()))
    assert only(cloud.hear(Pull(match.samples.sha256, (0,)), "m2", "dev-b")).code == RefusalCode.UNKNOWN_BLOB
    assert isinstance(only(cloud.hear(Pull(match.samples.sha256, (0,)), "m3")), Chunk)


def test_a_contributors_own_samples_are_not_sent_back(cloud: Cloud) -> None:
    """A device that gave samples is matched with others' only."""
    own = user_samples(7, 60)
    assert only(cloud.hear(Contribution(encode_batch(own)))) == Accepted("m1")
    match = only(cloud.hear(query_for(cloud.registry, cloud.model, own, max_samples=5000), "m2"))
    blob = cloud.answers.get(match.samples.sha256, "dev-a")
    number = cloud.index.pool.contributor_number("dev-a")
    others = {*cloud.index.pool.content_keys[cloud.index.pool.contributors != number].tolist()}
    assert match.count == len(decode_batch(blob, SCHEMA)) == len(others)


def test_a_repeated_query_is_answered_alike(cloud: Cloud, state_dir: Path) -> None:
    """The same query gets the same answer under the same message id, also after a restart; a new pool's, a good one."""
    first = cloud.hear(cloud.query())
    assert cloud.hear(cloud.query()) == first
    assert Cloud(state_dir).hear(cloud.query()) == first
    cloud.hear(Contribution(encode_batch(user_samples(1, 40, seed=9))), "m2", "dev-b")
    again = only(cloud.hear(cloud.query()))
    for match in (only(first), again):
        assert len(decode_batch(cloud.answers.get(match.samples.sha256, "dev-a"), SCHEMA)) == match.count


def test_an_expired_answer_is_made_anew(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the matched samples have gone, asking again gives samples that are there."""
    monkeypatch.setattr(cloud.answers, "_clock", lambda: 0.0)
    old = only(cloud.hear(cloud.query()))
    monkeypatch.setattr(cloud.answers, "_clock", lambda: LIFETIME_S)
    assert only(cloud.hear(Pull(old.samples.sha256, (0,)), "m2")).code == RefusalCode.UNKNOWN_BLOB
    again = only(cloud.hear(cloud.query(), "m3"))
    assert cloud.answers.get(again.samples.sha256, "dev-a")


def test_a_budget_too_small_for_a_sample_matches_none(cloud: Cloud) -> None:
    """No samples is an answer."""
    query = cloud.query()
    tiny = Query("q", 1, query.model_sha256, query.dimensions, query.centroids, query.weights, 50, 1)
    assert only(cloud.hear(tiny)) == Match("q", 0, None)


def test_a_contribution_is_matched_at_once_and_counts_once(cloud: Cloud) -> None:
    """What one device gives, the next query of another finds; a redelivered message adds nothing."""
    before = len(cloud.index)
    message = Contribution(encode_batch(user_samples(50, 30)))
    for _ in range(2):
        assert only(cloud.hear(message)) == Accepted("m1")
    assert len(cloud.index) == before + 30
    assert [event["samples"] for event in cloud.events if event["event"] == "contributed"] == [30, 0]


def test_a_device_that_is_forgotten_is_matched_no_more(cloud: Cloud) -> None:
    """Its contributions are in no later answer; the request is accepted as often as it comes."""
    own = user_samples(7, 60, seed=9)
    cloud.hear(Contribution(encode_batch(own)), "m1", "dev-b")
    query = query_for(cloud.registry, cloud.model, own, max_samples=5000)
    before = only(cloud.hear(query))
    for _ in range(2):
        assert only(cloud.hear(Forget(), "f1", "dev-b")) == Accepted("f1")
    assert [event["samples"] for event in cloud.events if event["event"] == "forgotten"] == [60, 0]
    again = only(cloud.hear(query_for(cloud.registry, cloud.model, own, "q2", max_samples=5000)))
    assert again.count < before.count
    ranked = cloud.index.rank(query, "dev-a")
    assert cloud.index.pool.take(ranked).features["item"].all()


def test_a_report_is_stored_once(cloud: Cloud) -> None:
    """A redelivered report is accepted again and kept once."""
    report = Report("round-1", 1, {"elapsed_s": 1.5, "energy_mj": None})
    for _ in range(2):
        assert only(cloud.hear(report)) == Accepted("m1")
    assert cloud.ledger.reports() == [("dev-a", {"elapsed_s": 1.5, "energy_mj": None})]
    assert cloud.ledger.reports("dev-b") == []


def test_pulling_is_answered_by_the_chunks_asked_for(cloud: Cloud) -> None:
    """The recommender comes in chunks, by index."""
    ref = cloud.model.recommender
    answers = cloud.hear(Pull(ref.sha256, (1, 0)))
    assert [answer.message.index for answer in answers if isinstance(answer.message, Chunk)] == [1, 0]
    assert len({answer.message_id for answer in answers}) == 2


def _other_schema() -> bytes:
    schema = FeatureSchema(SCHEMA.features[:1])
    features = {"item": np.ones(1, np.int32)}
    return encode_batch(SampleBatch(schema, features, np.ones(1, np.float32), np.ones(1, np.int64)))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Pull("0" * 64, (0,)), RefusalCode.UNKNOWN_BLOB),
        (Query("q", 1, "0" * 64, 2, b"\0" * 4, (1.0,), 5, 100), RefusalCode.UNKNOWN_MODEL),
        (Contribution(b"junk"), RefusalCode.MALFORMED),
        (Contribution(_other_schema()), RefusalCode.SCHEMA),
        (Report("round", 1, {"bytes": b"\0"}), RefusalCode.MALFORMED),
        (Report("round", 1, {"number": float("nan")}), RefusalCode.MALFORMED),
        (Report("r" * 65, 1, {}), RefusalCode.MALFORMED),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(cloud: Cloud, message: Message, code: RefusalCode) -> None:
    """The refusal names the message and says why, and the next message is served."""
    refusal = only(cloud.hear(message, "bad"))
    assert isinstance(refusal, Refusal)
    assert (refusal.message_id, refusal.code) == ("bad", code.value)
    assert cloud.events[-1] == {"event": "refused", "device": "dev-a", "kind": message.kind, "code": code.value}
    assert only(cloud.hear(HELLO, "good")) == cloud.tasks.current()


def test_centroids_of_another_width_are_refused(cloud: Cloud) -> None:
    """They are malformed, not a crash in the index."""
    query = Query("q", 1, cloud.model.recommender.sha256, 2, b"\0" * 4, (1.0,), 5, 100)
    assert only(cloud.hear(query)).code == RefusalCode.MALFORMED


def test_a_chunk_beyond_the_end_is_refused(cloud: Cloud) -> None:
    """Nothing is sent of a pull that asks for too much."""
    assert only(cloud.hear(Pull(cloud.model.classifier.sha256, (0, 4000)))).code == RefusalCode.MALFORMED


def test_another_version_is_refused_by_the_id_it_gives(cloud: Cloud) -> None:
    """A newer device learns which of its messages was not understood."""
    payload = msgpack.packb({"v": 2, "k": "hello", "id": "from the future", "b": {}})
    refusal = only(cloud.raw(payload, "hello"))
    assert (refusal.message_id, refusal.code) == ("from the future", RefusalCode.SCHEMA)


def test_an_oversize_message_is_refused(cloud: Cloud) -> None:
    """A payload beyond the contract's bound is not read."""
    refusal = only(cloud.raw(b"\0" * (topics.MAX_MESSAGE_BYTES + 1), "report"))
    assert refusal.code == RefusalCode.OVERSIZE


@pytest.mark.parametrize(
    "topic", ["coda/v1/test/dev-a/down/task", "coda/v1/test/dev a/up/hello", "x", "", "$SYS/uptime"]
)
def test_a_topic_that_is_no_devices_is_ignored(cloud: Cloud, topic: str) -> None:
    """There is nobody to answer."""
    assert cloud.handlers.respond(topic, b"x") == []


def test_a_failure_of_ours_is_told_without_internals(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged blob is logged with its path, and the device hears only that it may try again."""
    path = cloud.registry.blobs.path(cloud.model.recommender.sha256)
    path.write_bytes(b"damaged")
    with caplog.at_level(logging.ERROR):
        refusal = only(cloud.hear(Pull(path.name, (0,))))
    assert (refusal.code, str(path) in refusal.detail) == (RefusalCode.INTERNAL, False)
    assert str(path) in caplog.text


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(
        ["hello", "query", "pull", "contribution", "forget", "report", "presence", "task", "nonsense"]
    ),
    data=st.data(),
)
def test_whatever_arrives_is_answered_or_refused(cloud: Cloud, kind: str, data: st.DataObject) -> None:
    """No bytes under any kind raise; what cannot be read is refused once."""
    plain = st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3) | st.binary(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
    shaped = st.fixed_dictionaries({"v": st.just(1), "k": st.just(kind), "id": st.text(max_size=70), "b": plain})
    payload = data.draw(st.binary(max_size=60) | plain.map(msgpack.packb) | shaped.map(msgpack.packb))
    answers = cloud.raw(payload, kind)
    assert all(isinstance(answer.message, (Refusal, Accepted, Task)) for answer in answers)
    assert len(answers) <= 1
    for answer in answers:
        envelope.encode(answer.message, answer.message_id)


@pytest.mark.parametrize(
    ("report", "message_id"),
    [
        (Report("r", 1, {}), "m\0"),
        (Report("r\0", 1, {}), "m"),
        (Report("r", 1 << 63, {}), "m"),
        (Report("r", -1, {}), "m"),
    ],
)
def test_what_not_every_database_holds_is_malformed(cloud: Cloud, report: Report, message_id: str) -> None:
    """A NUL in an id, or a version beyond 63 bits: no device shall keep a cloud from moving to PostgreSQL."""
    assert only(cloud.hear(report, message_id)).code == RefusalCode.MALFORMED
    assert cloud.ledger.reports() == []


def test_tasks_change_only_with_their_content(tmp_path: Path, cloud: Cloud) -> None:
    """The same content keeps its version over restarts; a new recipe is a new version, given to each device once."""
    book = TaskBook(tmp_path / "book")
    blobs = (cloud.model.recommender, cloud.model.classifier)
    assert book.current() is None
    assert book.assign("dev-a") is None
    first = book.make_current(SCHEMA, Recipe(), *blobs)
    assert book.assign("dev-a") == first
    assert book.assign("dev-a") is None
    book.close()
    book = TaskBook(tmp_path / "book")
    assert book.make_current(SCHEMA, Recipe(), *blobs) == first
    second = book.make_current(SCHEMA, Recipe(steps=7), *blobs)
    assert (first.version, second.version) == (1, 2)
    assert book.assigned() == {"dev-a": first}
    assert book.assign("dev-a") == second
    assert book.assigned() == {"dev-a": second}


def test_forgetting_removes_answers_that_wait_to_be_pulled(cloud: Cloud) -> None:
    """A blob with samples of the forgotten device is gone, one without stays; a repeated query is answered anew."""
    mine = user_samples(77, 60)
    cloud.hear(Contribution(encode_batch(mine)), "c1", device="dev-b")
    query = query_for(cloud.registry, cloud.model, mine, max_samples=2000)
    with_mine = only(cloud.hear(query, "q1"))
    without = only(cloud.hear(query_for(cloud.registry, cloud.model, mine, "q2"), "q2", device="dev-b"))
    assert cloud.answers.holds(with_mine.samples.sha256, "dev-a")
    cloud.hear(Forget(), "f1", device="dev-b")
    assert not cloud.answers.holds(with_mine.samples.sha256, "dev-a")
    assert only(cloud.hear(Pull(with_mine.samples.sha256, (0,)), "p1")).code == "unknown-blob"
    assert isinstance(only(cloud.hear(Pull(without.samples.sha256, (0,)), "p2", device="dev-b")), Chunk)
    again = only(cloud.hear(query, "q1"))
    assert again.samples != with_mine.samples
    samples = decode_batch(cloud.answers.get(again.samples.sha256, "dev-a"), SCHEMA)
    sent, given = ({*zip(content_keys(batch), batch.time_s, strict=True)} for batch in (samples, mine))
    assert not sent & given


def test_a_contribution_that_is_not_whole_is_forgotten_too(cloud: Cloud) -> None:
    """Its pieces are gone, and what comes later of it does not make it whole."""
    letter = envelope.encode(Contribution(encode_batch(user_samples(77, 2000))), "c1")
    collect = only(cloud.hear(Offer("contribution", blob_ref(letter), CHUNK_SIZES[0]), "c1"))
    first, *others = pieces_of(letter, collect)
    cloud.hear(first, "p0")
    assert only(cloud.hear(Forget(), "f1")) == Accepted("f1")
    assert [only(cloud.hear(one, f"p{one.index}")).code for one in others] == ["malformed"] * len(others)


def test_an_answer_tells_nothing_of_who_gave_samples(cloud: Cloud) -> None:
    """No contributor's name or number is in the match or in the samples' bytes: features, label and time are all."""
    match = only(cloud.hear(cloud.query()))
    payload = cloud.answers.get(match.samples.sha256, "dev-a")
    assert [name for name, _ in decode_batch(payload, SCHEMA).columns()] == [
        *(feature.name for feature in SCHEMA.features), "label", "time_s",
    ]  # fmt: skip
    assert b"user-" not in payload
    assert b"user-" not in envelope.encode(match, "m")
