"""Rounds that are cut short, by a kill, a stop or something that is gone: each goes on, or says why it cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from edge.round.rounds import MAX_ATTEMPTS
from edge.service import EdgeService
from profiling.record import PHASES
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.broker_fixtures import FleetBroker
from tests.edge.samples import SCHEMA, samples
from tests.end_to_end.conftest import Device, Event, record_of

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=300, learning_rate=0.2, classifier_steps=200, match_samples=500)
# Long enough for a signal to arrive while a phase is at work.
SLOW = Recipe(steps=8_000, learning_rate=0.01, classifier_steps=4_000, match_samples=500)

MakeDevice = Callable[..., Device]


def _phases(events: list[Event], status: str) -> list[str]:
    return [event["phase"] for event in events if event["event"] == "phase" and event["status"] == status]


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
    record = record_of(before + after)
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
        record = record_of(one.run().finish())
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
    assert record_of(events).outcome.decision in ("activated", "kept-h0")


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
        record = record_of(one.run().finish())
        [reported] = service.reports("round-poison")
        assert one.run().finish()[-1]["event"] == "idle"
    assert record.outcome.decision == reported["outcome"]["decision"] == "abandoned"
    assert "ended 5 times" in record.outcome.reason


@pytest.mark.parametrize(
    ("name", "recipe", "told"),
    [("round-gone", RECIPE.to_dict(), "unknown-blob"), ("round-unread", {"wisdom": 3}, "wisdom")],
    ids=["its files are gone", "it cannot be read"],
)
def test_a_task_that_cannot_be_used_is_given_up(
    cloud: Any, device: MakeDevice, name: str, recipe: dict[str, Any], told: str
) -> None:
    """The cloud no longer has the model, or a hyper-parameter is unknown: the device reports why it stopped."""
    one = device(name)
    one.add(samples(40))
    gone = BlobRef("c" * 64, 1000)
    with one.store() as store:
        store.rounds.begin(Task(1, SCHEMA.to_dict(), recipe, gone, gone), "sync")
    with cloud(RECIPE):
        record = record_of(one.run().finish())
    assert record.outcome.decision == "abandoned"
    assert told in record.outcome.reason


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
