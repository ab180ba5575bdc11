"""The connection's states, under every short history of what a broker and a link may do."""

from __future__ import annotations

from itertools import product

from protocol.connection import FIRST_DELAY_S, LAST_DELAY_S, SILENT_S, Connection, State

EVENTS = ("begin", "connected", "subscribed", "lost", "close")


def _online() -> Connection:
    connection = Connection()
    assert connection.begin()
    assert connection.connected()
    assert connection.subscribed()
    return connection


def test_every_short_history_keeps_its_promises() -> None:
    """Six events in any order: online only after all steps of this connection, closed for ever, counted once each."""
    for history in product(EVENTS, repeat=6):
        connection, steps = Connection(), list[str]()
        for event in history:
            before, number = connection.state, connection.number
            answer = getattr(connection, event)()
            steps = [] if event == "lost" else steps
            steps = [*steps, event] if answer else steps
            if before is State.CLOSED:
                assert connection.state is State.CLOSED
                assert not answer
            if connection.usable:
                assert steps[-3:] == ["begin", "connected", "subscribed"] or (before is State.ONLINE)
            assert connection.number - number == (event == "connected" and before is State.CONNECTING)
            if event == "close":
                assert answer == (before is State.ONLINE)
        if connection.state is not State.CLOSED:
            connection.lost()
            assert connection.begin()


def test_delays_double_until_the_device_is_online_again() -> None:
    """A broker that accepts and refuses by turns is not hammered; one that lets us in is trusted again."""
    connection, delays_s = Connection(), []
    for _ in range(10):
        connection.begin()
        connection.connected()
        connection.lost()
        delays_s.append(connection.delay_s(0.5))
    assert delays_s[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert delays_s[-1] == LAST_DELAY_S
    assert connection.begin()
    assert connection.connected()
    assert connection.subscribed()
    connection.lost()
    assert connection.delay_s(0.0) == FIRST_DELAY_S / 2


def test_a_connection_that_owes_an_answer_and_does_not_move_is_dead() -> None:
    """Silence is no sign while nothing is expected, nor while bytes still move."""
    connection = _online()
    assert not connection.dead(0.0, 100, expecting=False)
    assert not connection.dead(3600.0, 100, expecting=False)
    assert not connection.dead(3600.0 + SILENT_S - 1, 100, expecting=True)
    assert not connection.dead(3600.0 + SILENT_S, 101, expecting=True)
    assert not connection.dead(3600.0 + 2 * SILENT_S - 1, 101, expecting=True)
    assert connection.dead(3600.0 + 2 * SILENT_S, 101, expecting=True)
