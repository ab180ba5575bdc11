"""How much may wait before a thread, and when those put off come again."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_broker.workers.admission import LEAST_RETRY_S, MAY_BE_PUT_OFF, MOST_RETRY_S, Lane
from protocol.messages import MESSAGES, Contribution, Locate, Message, Piece, Presence, Pull, Query
from tests.protocol.strategies import PROPERTY

SERVICE_S = 0.1


def settled_lane(patience_s: float = 1.0, most: int = 1000) -> Lane:
    """A lane that has learnt that a message takes `SERVICE_S`."""
    lane = Lane(patience_s, most)
    for _ in range(200):
        assert lane.admit(Pull.kind, 0.0) is None
        lane.served(SERVICE_S, 0.0)
    return lane


def test_what_would_wait_too_long_is_put_off() -> None:
    """With 0.1 s a message and a patience of 1 s, eleven wait and the twelfth is told to come again."""
    lane = settled_lane()
    admitted = [lane.admit(Query.kind, 0.0) for _ in range(12)]
    assert admitted[:11] == [None] * 11
    assert admitted[11] is not None
    assert lane.waiting == 11
    lane.served(SERVICE_S, 0.0)
    assert lane.admit(Query.kind, 0.0) is None


def test_those_put_off_are_called_back_no_faster_than_they_can_be_served() -> None:
    """A crowd is told times a service apart, from one second up to a bound."""
    lane = settled_lane()
    told = [lane.admit(Query.kind, 0.0) for _ in range(1000)][11:]
    times = [one for one in told if one is not None]
    assert len(times) == len(told)
    assert times[0] == pytest.approx(1.2, rel=1e-3)
    assert all(b - a == pytest.approx(SERVICE_S, rel=1e-3) or b == MOST_RETRY_S for a, b in pairwise(times))
    assert times[-1] == MOST_RETRY_S


def test_promises_lapse_with_time() -> None:
    """Long after a crowd was put off, the next one that finds no room is told to come soon."""
    lane = settled_lane()
    for _ in range(1000):
        lane.admit(Query.kind, 0.0)
    assert lane.admit(Query.kind, 1000.0) == pytest.approx(1.2, rel=1e-3)


@pytest.mark.parametrize("message", [Pull, Piece, Locate, Presence])
def test_what_goes_on_with_something_begun_is_never_put_off(message: type[Message]) -> None:
    """A transfer in progress comes to its end, however busy the worker is."""
    lane = settled_lane(patience_s=0.0, most=1)
    assert lane.admit(Query.kind, 0.0) is None
    assert lane.admit(Query.kind, 0.0) is not None
    assert [lane.admit(message.kind, 0.0) for _ in range(5)] == [None] * 5


def test_a_number_bounds_what_waits_where_messages_are_quick() -> None:
    """However short a service is, no more than so many that may be put off wait."""
    lane = settled_lane(patience_s=math.inf, most=3)
    assert [lane.admit(Contribution.kind, 0.0) is None for _ in range(5)] == [True, True, True, False, False]


def test_every_kind_that_may_be_put_off_is_a_devices() -> None:
    """A misspelt kind would never be put off."""
    assert {("up", kind) for kind in MAY_BE_PUT_OFF} <= set(MESSAGES)


def test_load_is_the_share_of_time_at_work() -> None:
    """A thread at work for a third of the time is loaded so; one that has nothing to do any more soon is not."""
    lane = Lane(1.0)
    for tenth in range(600):
        lane.admit(Pull.kind, tenth / 10)
        lane.served(1 / 30, (tenth + 1) / 10)
    assert lane.load(60.0) == pytest.approx(1 / 3, rel=0.3)
    assert lane.load(80.0) < 1e-4


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["ask", "serve", "wait"]), st.floats(0.0001, 5.0))))
def test_any_history_keeps_its_bounds(history: list[tuple[str, float]]) -> None:
    """What waits is what was let in and not served; whoever is put off is told a time within bounds."""
    lane, now_s, waiting = Lane(1.0, 50), 0.0, 0
    for event, value in history:
        now_s += value if event == "wait" else 0.0
        if event == "ask":
            told = lane.admit(Query.kind, now_s)
            waiting += told is None
            assert told is None or LEAST_RETRY_S <= told <= MOST_RETRY_S
        elif event == "serve" and waiting:
            lane.served(value, now_s)
            waiting -= 1
        assert lane.waiting == waiting <= 50
