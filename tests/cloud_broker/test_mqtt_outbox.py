"""What a worker has to say to the broker: nothing is forgotten, nothing waits unnoticed."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from cloud_broker.workers.mqtt_outbox import Outbox, Waker
from protocol import mqtt_codec as mqtt


@pytest.fixture
def waker() -> Iterator[Waker]:
    """Closed afterwards."""
    made = Waker()
    yield made
    made.close()


def _readable(waker: Waker) -> bool:
    return bool(select.select([waker.readable], [], [], 0)[0])


def test_a_thread_is_woken_once_and_again_after_it_looked(waker: Waker) -> None:
    """As often as it has to look, and no more."""
    waker.wake()
    waker.wake()
    waker.heard()
    assert not _readable(waker)
    waker.wake()
    assert _readable(waker)


def test_who_wakes_it_while_it_wakes_up_does_not_keep_others_from_it(waker: Waker) -> None:
    """The byte of that moment is read with the one before; what is said afterwards must be noticed all the same."""
    ends = waker._ends

    class Meanwhile:
        def recv(self, count: int) -> bytes:
            waker.wake()
            return ends[0].recv(count)

    waker.wake()
    waker._ends = (Meanwhile(), ends[1])  # type: ignore[assignment]
    waker.heard()
    waker._ends = ends
    waker.wake()
    assert _readable(waker)


def _sent(outbox: Outbox) -> list[mqtt.Packet]:
    data = outbox.next_bytes()
    outbox.written(len(data))
    return mqtt.Reader().feed(data)


def test_what_the_broker_does_not_have_is_said_again_on_the_next_connection() -> None:
    """At QoS 1; what is said at QoS 0 is gone with its connection."""
    outbox = Outbox(lambda: None)
    outbox.begin(10)
    outbox.publish("t", b"kept", qos=1)
    outbox.publish("t", b"had", qos=1)
    outbox.publish("t", b"gone", qos=0)
    outbox.acknowledged(_sent(outbox)[1].mid)
    outbox.lose()
    outbox.publish("t", b"meanwhile", qos=1)
    outbox.begin(10)
    assert [packet.payload for packet in _sent(outbox)] == [b"kept", b"meanwhile"]


def test_the_broker_is_given_as_many_at_a_time_as_it_takes() -> None:
    """The rest follows as it acknowledges."""
    outbox = Outbox(lambda: None)
    outbox.begin(2)
    for number in range(3):
        outbox.publish("t", b"%d" % number, qos=1)
    first = _sent(outbox)
    outbox.acknowledged(first[0].mid)
    assert [packet.payload for packet in first] == [b"0", b"1"]
    assert [packet.payload for packet in _sent(outbox)] == [b"2"]


def test_what_was_for_an_earlier_connection_is_not_said_on_this_one() -> None:
    """An acknowledgement names a message of its own connection."""
    outbox = Outbox(lambda: None)
    outbox.begin(10)
    outbox.lose()
    outbox.begin(10)
    outbox.say(mqtt.puback(7), connection=1)
    outbox.say(mqtt.puback(8), connection=2)
    assert [packet.mid for packet in _sent(outbox)] == [8]


def test_what_is_not_written_at_once_is_written_next() -> None:
    """From where the line stopped."""
    outbox = Outbox(lambda: None)
    outbox.begin(10)
    outbox.publish("t", b"payload", qos=0)
    whole = outbox.next_bytes()
    assert outbox.written(5)
    assert outbox.next_bytes() == whole[5:]
    assert not outbox.written(len(whole) - 5)


def test_nobody_waits_for_room_once_it_is_given_up() -> None:
    """A gateway that stops hands over no more than there is room for."""
    outbox = Outbox(lambda: None)
    outbox.give_up()
    handed_over = [outbox.publish("t", b"", qos=1) for _ in range(200)]
    assert 0 < sum(handed_over) < 200


def test_a_waker_that_is_closed_wakes_nobody() -> None:
    """Whoever says something after the end is not in the way."""
    waker = Waker()
    waker.close()
    waker.wake()
    assert waker.readable.fileno() == -1
