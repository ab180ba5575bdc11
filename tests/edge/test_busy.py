"""A cloud that has too much to do, as a device sees it: over a real Mosquitto, a plain MQTT peer plays the cloud."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge.errors import RefusedError
from edge.storage.store import Store
from edge.tunnel.link import Link
from edge.tunnel.session import Session
from protocol import topics
from protocol.messages import Accepted, Busy, Message, Report, Rows, RowsRequest
from tests.broker_fixtures import FLEET, WAIT_S, FleetBroker, Peer
from tests.edge.test_link import config_for

pytestmark = pytest.mark.broker

SHA = "ab" * 32
SOON_S = 3.0  # before a silence would make the device say anything again


def is_rows(message: Message) -> bool:
    """Whether it answers a request for rows."""
    return isinstance(message, Rows)


def test_a_question_that_is_put_off_is_asked_again_under_its_id(own_broker: FleetBroker, tmp_path: Path) -> None:
    """The device asks as often as it is put off; where no answer comes in time, it says that the cloud was busy."""
    config, heard = config_for(own_broker, "dev-busy", tmp_path), list[str]()
    with Peer(own_broker, own_broker.cloud()) as cloud, Store(tmp_path / "state") as store, Link(config) as link:
        cloud.subscribe(topics.cloud_filter(FLEET))

        def answer() -> None:
            while len(heard) < 3:
                heard.append(cloud.hear("rows").message_id)
                cloud.say(Busy(heard[-1], 0.1), f"busy-{len(heard)}", device="dev-busy")
            heard.append(cloud.hear("rows").message_id)

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        events = list[str]()
        link.open(WAIT_S)
        session = Session(link, store, lambda event: events.append(event["event"]), SOON_S)
        with (
            pytest.raises(RefusedError, match=r"busy.*too much to do") as refused,
            session.ask(RowsRequest("r1", SHA, (1,)), is_rows),
        ):
            raise AssertionError("nobody answered")
        answering.join()
    assert len(set(heard)) == 1
    assert events == ["put-off"] * 3
    assert not refused.value.lasting


def test_a_letter_that_is_put_off_stays_in_the_outbox_till_it_is_accepted(
    own_broker: FleetBroker, tmp_path: Path
) -> None:
    """Nothing is lost by being put off."""
    config = config_for(own_broker, "dev-busy", tmp_path)
    with Peer(own_broker, own_broker.cloud()) as cloud, Store(tmp_path / "state") as store, Link(config) as link:
        cloud.subscribe(topics.cloud_filter(FLEET))
        letter = store.outbox.add(Report("round-1", 1, {}))

        def answer() -> None:
            assert cloud.hear("report").message_id == letter
            cloud.say(Busy(letter, 0.1), "busy", device="dev-busy")
            assert cloud.hear("report").message_id == letter
            assert letter in store.outbox
            cloud.say(Accepted(letter), "accepted", device="dev-busy")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        link.open(WAIT_S)
        Session(link, store, lambda _event: None, SOON_S).deliver_outbox()
        answering.join()
        assert letter not in store.outbox
