"""Whole rounds between a real device process and a real cloud service over a real Mosquitto."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from cloud_broker.matching.options import MatchOptions
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.workers.answering import Answering
from cloud_broker.workers.answers import Outgoing
from cloud_broker.workers.handlers import Handlers
from edge.round.rounds import MAX_ATTEMPTS
from edge.service import EdgeService
from profiling.record import PHASES, RoundRecord
from protocol.errors import MalformedMessageError
from protocol.messages import BlobRef, Match, Query, Task
from protocol.opinions import unpack_opinions
from protocol.recipe import Recipe
from tests.broker_fixtures import FleetBroker, Peer
from tests.edge.samples import SCHEMA, samples
from tests.end_to_end.conftest import WAIT_S, Device, Event

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=300, learning_rate=0.2, classifier_steps=200, match_samples=500)
# Long enough for a signal to arrive while a phase is at work.
SLOW = Recipe(steps=20_000, learning_rate=0.01, classifier_steps=10_000, match_samples=500)

MakeDevice = Callable[..., Device]


def _record(events: list[Event]) -> RoundRecord:
    [record] = [event["record"] for event in events if event["event"] == "round"]
    return RoundRecord.from_dict(record)


def _phases(events: list[Event], status: str) -> list[str]:
    return [event["phase"] for event in events if event["event"] == "phase" and event["status"] == status]


def test_a_round_from_task_to_report(cloud: Any, device: MakeDevice) -> None:
    """Everything happens for real, is measured by phase, and reaches the cloud; the model is served afterwards."""
    one = device("round-1")
    one.add(samples(100))
    with cloud(RECIPE) as service:
        events = one.run().finish()
        [reported] = service.reports("round-1")
        assert service.pool_size() == 1000
    record = _record(events)
    assert [phase.name for phase in record.phases if phase.level == 0] == ["sync", *PHASES]
    assert record.outcome.samples_local == 100
    assert 0 < record.outcome.samples_matched <= 500
    assert 0 < record.outcome.samples_kept <= record.outcome.samples_matched
    assert record.outcome.decision in ("activated", "kept-h0")
    totals = record.totals
    assert totals.mqtt_down_bytes is not None
    assert totals.payload_down_bytes is not None
    assert totals.tcp_down_bytes is not None
    assert totals.tcp_down_bytes > totals.mqtt_down_bytes > totals.payload_down_bytes > 10_000
    assert totals.payload_up_bytes
    assert reported["round_id"] == record.round_id
    assert reported["outcome"] == record.to_dict()["outcome"]
    with one.store() as store:
        serving = store.rounds.serving()
        assert serving is not None
        assert (serving.personal is not None) == (record.outcome.decision == "activated")
        assert store.rounds.records() == [record]
        assert store.outbox.pending() == []


@pytest.mark.parametrize("knows", [True, False])
def test_matched_samples_come_in_the_answer_or_apart(
    cloud: Any, device: MakeDevice, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    """A cloud that knows such answers sends few samples at once; of one from before, they are pulled."""
    heard = list[str]()
    respond, match = Handlers.respond, Answering.match

    def listen(self: Handlers, topic: str, payload: bytes) -> list[Outgoing]:
        heard.append(topic.rsplit("/", 1)[1])
        return respond(self, topic, payload)

    def refuse(self: Answering, query: Query, device: str) -> Match:
        if query.inline_bytes is not None:
            raise MalformedMessageError("message query: missing fields [], unknown fields ['inline_bytes']")
        return match(self, query, device)

    monkeypatch.setattr(Handlers, "respond", listen)
    if not knows:
        monkeypatch.setattr(Answering, "match", refuse)
    name = f"round-in-one-{knows}"
    one = device(name)
    one.add(samples(100))
    with cloud(RECIPE) as service:
        events = one.run().finish()
        [reported] = service.reports(name)
    assert reported["outcome"]["samples_matched"] == _record(events).outcome.samples_matched > 0
    answers = [event["size_bytes"] for event in service.events if event["event"] == "matched"]
    assert len(answers) == 1
    first_question = heard.index("query")
    assert heard.count("query") == (1 if knows else 2)
    assert ("pull" in heard[first_question:]) == (not knows)


def test_a_device_stays_small(cloud: Any, device: MakeDevice) -> None:
    """The whole process peaks under 90 MB resident, of which up to 40 are files mapped, as the page cache has them."""
    one = device("round-small")
    one.add(samples(100))
    with cloud(RECIPE):
        record = _record(one.run().finish())
    peak = record.totals.peak_rss_bytes
    if peak is None:
        pytest.skip(record.unmeasured["peak_rss"])
    assert peak < 90e6


def test_a_task_is_done_once(cloud: Any, device: MakeDevice) -> None:
    """A second run finds the same task and rests; a newer task is done."""
    one = device("round-twice")
    one.add(samples(40))
    with cloud(RECIPE):
        first = _record(one.run().finish())
        again = one.run().finish()
    assert again[-1]["event"] == "idle"
    with cloud(Recipe(steps=50, learning_rate=0.2, classifier_steps=50)):
        newer = _record(one.run().finish())
    assert (first.task_version, newer.task_version) == (1, 2)


def test_too_few_samples_serve_h0(cloud: Any, device: MakeDevice) -> None:
    """The device says so, asks for nothing, and is served by h0."""
    one = device("round-few")
    one.add(samples(7))
    with cloud(RECIPE) as service:
        record = _record(one.run().finish())
        [reported] = service.reports("round-few")
    assert record.outcome.decision == "served-h0-too-few-samples"
    assert "7 local, 20 are needed" in record.outcome.reason
    assert [phase.name for phase in record.phases] == ["sync", "sync", "report"]
    assert reported["outcome"]["decision"] == record.outcome.decision
    with one.store() as store:
        serving = store.rounds.serving()
    assert serving is not None
    assert serving.personal is None


@pytest.mark.parametrize("contribute", [False, True])
def test_samples_leave_the_device_only_if_its_owner_says_so(cloud: Any, device: MakeDevice, contribute: bool) -> None:
    """Off by default; where it is on, the pool has each sample once."""
    one = device(f"round-contribute-{contribute}", contribute=contribute)
    one.add(samples(40))
    with cloud(RECIPE) as service:
        one.run().finish()
        one.run().finish()
        assert service.pool_size() == 1000 + (40 if contribute else 0)


@pytest.mark.parametrize("agreement", [False, True])
def test_a_device_tells_its_items_only_if_its_owner_says_so(
    cloud: Any, device: MakeDevice, monkeypatch: pytest.MonkeyPatch, agreement: bool
) -> None:
    """Off by default, though the task asks for it; where it is on, its contributions may be used so, too."""
    said = list[bytes | None]()
    match = Answering.match

    def listen(self: Answering, query: Query, device: str) -> Match:
        said.append(query.opinions)
        return match(self, query, device)

    monkeypatch.setattr(Answering, "match", listen)
    one = device(f"round-agrees-{agreement}", contribute=True, agreement=agreement)
    one.add(batch := samples(40))
    with cloud(replace(RECIPE, opinions=10), matching=MatchOptions(matcher="agreement")) as service:
        one.run().finish()
        with closing(SamplePool(service.state_dir / "pool")) as pool:
            assert pool.agreeing().any() == agreement
    [opinions] = said
    assert (opinions is not None) == agreement
    if opinions is not None:
        items, liked = unpack_opinions(opinions)
        own = {(int(item), label > 0) for item, label in zip(batch.features["item"], batch.label, strict=True)}
        assert len(items) == 10
        assert set(zip(items.tolist(), liked.tolist(), strict=True)) <= own


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_device_continues_where_it_stood(cloud: Any, device: MakeDevice, phase: str) -> None:
    """SIGKILL in any phase: the same round goes on, no phase that had ended is begun again, and one report arrives."""
    one = device(f"round-kill-{phase}")
    one.add(samples(100))
    with cloud(SLOW) as service:
        first = one.run()
        before = first.events(lambda event: (event["event"], event.get("phase")) == ("phase", phase))
        before += first.kill()
        after = one.run().finish()
        reports = service.reports(f"round-kill-{phase}")
    record = _record(before + after)
    ended = set(_phases(before, "end")) - {"sync"}  # whose first part, hearing the task, has no round yet
    assert not ended & set(_phases(after, "begin"))
    named = {event["round_id"] for event in before + after if event.get("round_id")}
    assert named == {record.round_id}
    assert [report["round_id"] for report in reports] == [record.round_id]
    assert set(PHASES) <= {phase.name for phase in record.phases}


def test_a_model_spoilt_on_disk_is_fetched_again(cloud: Any, device: MakeDevice) -> None:
    """A blob that no longer has its digest is never opened: the device brings it again and goes on."""
    one = device("round-spoilt")
    one.add(samples(100))
    with cloud(SLOW):
        first = one.run()
        first.events(lambda event: (event["event"], event.get("phase")) == ("progress", "classify"))
        first.kill()
        with one.store() as store:
            stored = store.rounds.unfinished()
            assert stored is not None
            store.blobs.path(stored.task.recommender.sha256).write_bytes(b"spoilt" * 100)
        record = _record(one.run().finish())
    assert record.round_id == stored.round_id
    assert record.outcome.decision in ("activated", "kept-h0")


def test_a_killed_broker_does_not_end_a_round(cloud: Any, device: MakeDevice, own_broker: FleetBroker) -> None:
    """SIGKILL of Mosquitto while the device trains: both sides come back, and the round ends well."""
    one = device("round-broker", broker=own_broker)
    one.add(samples(100))
    with cloud(SLOW, broker=own_broker) as service:
        run = one.run()
        events = run.events(lambda event: (event["event"], event.get("phase")) == ("progress", "tune"))
        own_broker.broker.kill()
        own_broker.broker.start()
        events += run.finish()
        assert len(service.reports("round-broker")) == 1
    assert _record(events).outcome.decision in ("activated", "kept-h0")


def test_a_message_of_another_version_is_refused(cloud: Any, device: MakeDevice, peer: Callable[..., Peer]) -> None:
    """It is told and left behind; the round goes on and nothing is lost."""
    one = device("round-version")
    one.add(samples(40))
    stranger = peer("cloud-2")
    with cloud(RECIPE):
        stranger.publish(
            "coda/v1/test/round-version/down/accepted",
            b"\x84\xa1v\x63\xa1k\xa8accepted\xa2id\xa1x\xa1b\x80",
            retain=True,
        )
        events = one.run().finish()
    [refused] = [event for event in events if event["event"] == "message-refused"]
    assert "schema version" in refused["reason"]
    assert _record(events).outcome.decision in ("activated", "kept-h0")


def test_a_cloud_that_is_away_is_told(device: MakeDevice) -> None:
    """No task comes: the error says what to look at, and the device ends with a failure."""
    one = device("round-alone", timeout_s=0.5)
    run = one.run()
    assert run.events()[-1]["status"] == "begin"
    assert run.process.wait() == 1
    assert "no task within 0.5 s; is the cloud's service running?" in run.errors()


def test_a_phase_that_always_kills_is_given_up(cloud: Any, device: MakeDevice) -> None:
    """After some restarts in the same phase the device reports that it gave up, and goes on with its life."""
    one = device("round-poison")
    one.add(samples(40))
    with cloud(RECIPE) as service:
        first = one.run()
        first.events(lambda event: (event["event"], event.get("phase")) == ("phase", "query"))
        first.kill()
        with one.store() as store:
            stored = store.rounds.unfinished()
            assert stored is not None
            for _ in range(MAX_ATTEMPTS):
                store.rounds.count_attempt(stored.round_id)
        record = _record(one.run().finish())
        [reported] = service.reports("round-poison")
        assert one.run().finish()[-1]["event"] == "idle"
    assert record.outcome.decision == reported["outcome"]["decision"] == "abandoned"
    assert "ended 5 times" in record.outcome.reason


def test_a_task_whose_files_are_gone_is_given_up(cloud: Any, device: MakeDevice) -> None:
    """The cloud no longer has the model: the device reports why it stopped, and keeps nothing of it."""
    one = device("round-gone")
    one.add(samples(40))
    gone = BlobRef("c" * 64, 1000)
    with one.store() as store:
        store.rounds.begin(Task(1, SCHEMA.to_dict(), RECIPE.to_dict(), gone, gone), "sync")
    with cloud(RECIPE):
        record = _record(one.run().finish())
    assert record.outcome.decision == "abandoned"
    assert "unknown-blob" in record.outcome.reason


def test_a_task_that_cannot_be_read_is_given_up(cloud: Any, device: MakeDevice) -> None:
    """An unknown hyper-parameter is named in the report."""
    one = device("round-unread")
    gone = BlobRef("c" * 64, 1000)
    with one.store() as store:
        store.rounds.begin(Task(1, SCHEMA.to_dict(), {"wisdom": 3}, gone, gone), "sync")
    with cloud(RECIPE):
        record = _record(one.run().finish())
    assert record.outcome.decision == "abandoned"
    assert "wisdom" in record.outcome.reason


def test_the_service_does_every_new_task(cloud: Any, device: MakeDevice) -> None:
    """It rests between tasks, survives the cloud's absence, and ends when told to stop."""
    one = device("round-forever")
    one.add(samples(40))
    done: queue.Queue[Event] = queue.Queue()
    stop = threading.Event()
    service = EdgeService(one.config, lambda event: done.put(event) if event["event"] in ("round", "stopped") else None)
    thread = threading.Thread(target=service.run_forever, args=[stop], daemon=True)
    with cloud(RECIPE):
        thread.start()
        assert done.get(timeout=WAIT_S)["record"]["task_version"] == 1
    with cloud(Recipe(steps=50, learning_rate=0.2, classifier_steps=50)):
        assert done.get(timeout=WAIT_S)["record"]["task_version"] == 2
    stop.set()
    assert done.get(timeout=WAIT_S) == {"event": "stopped"}
    thread.join()


def test_a_stopped_round_is_continued(cloud: Any, device: MakeDevice) -> None:
    """Told to stop in the middle of training: it ends at once, keeps the round, and finishes it when run again."""
    one = device("round-stopped")
    one.add(samples(40))
    stop = threading.Event()

    def on_event(event: Event) -> None:
        if (event["event"], event.get("phase")) == ("progress", "tune"):
            stop.set()

    with cloud(SLOW):
        assert EdgeService(one.config, on_event).run_once(stop) is None
        with one.store() as store:
            stored = store.rounds.unfinished()
        record = EdgeService(one.config).run_once()
    assert stored is not None
    assert stored.state == "tune"
    assert record is not None
    assert record.round_id == stored.round_id
