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
from edge.service import EdgeService
from profiling.record import PHASES
from protocol.errors import MalformedMessageError
from protocol.messages import Match, Query
from protocol.opinions import unpack_opinions
from protocol.recipe import Recipe
from tests.broker_fixtures import Peer
from tests.edge.samples import samples
from tests.end_to_end.conftest import WAIT_S, Device, Event, record_of

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=300, learning_rate=0.2, classifier_steps=200, match_samples=500)

MakeDevice = Callable[..., Device]


def test_a_round_from_task_to_report(cloud: Any, device: MakeDevice) -> None:
    """Everything happens for real, is measured by phase, and reaches the cloud; the model is served afterwards."""
    one = device("round-1")
    one.add(samples(100))
    with cloud(RECIPE) as service:
        events = one.run().finish()
        [reported] = service.reports("round-1")
        assert service.pool_size() == 1000
    record = record_of(events)
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
    assert reported["outcome"]["samples_matched"] == record_of(events).outcome.samples_matched > 0
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
        record = record_of(one.run().finish())
    peak = record.totals.peak_rss_bytes
    if peak is None:
        pytest.skip(record.unmeasured["peak_rss"])
    assert peak < 90e6


def test_a_task_is_done_once(cloud: Any, device: MakeDevice) -> None:
    """A second run finds the same task and rests; a newer task is done."""
    one = device("round-twice")
    one.add(samples(40))
    with cloud(RECIPE):
        first = record_of(one.run().finish())
        again = one.run().finish()
    assert again[-1]["event"] == "idle"
    with cloud(Recipe(steps=50, learning_rate=0.2, classifier_steps=50)):
        newer = record_of(one.run().finish())
    assert (first.task_version, newer.task_version) == (1, 2)


def test_too_few_samples_serve_h0(cloud: Any, device: MakeDevice) -> None:
    """The device says so, asks for nothing, and is served by h0."""
    one = device("round-few")
    one.add(samples(7))
    with cloud(RECIPE) as service:
        record = record_of(one.run().finish())
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
    assert record_of(events).outcome.decision in ("activated", "kept-h0")


def test_a_cloud_that_is_away_is_told(device: MakeDevice) -> None:
    """No task comes: the error says what to look at, and the device ends with a failure."""
    one = device("round-alone", timeout_s=3.0)
    run = one.run()
    assert run.events()[-1]["status"] == "begin"
    assert run.process.wait() == 1
    assert "no task within 3 s; is the cloud's service running?" in run.errors()


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
