"""What is told to a supervisor, over real sockets."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from edge.supervision import Supervisor, status_of
from tests.service.supervisor import bell, listening


class Clock:
    """Seconds that pass as a test says."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_told_arrives(tmp_path: Path, abstract: bool) -> None:
    """At a path and at an abstract name; a status is one line, whatever an error's message holds."""
    with listening(f"@coda-{uuid.uuid4().hex}" if abstract else tmp_path / "notify") as far:
        near = Supervisor.from_environment({"NOTIFY_SOCKET": far.address})
        near.starting("opening", 1.5)
        near.ready("waiting")
        near.tell({"event": "offline", "reason": "no\nroute\n"})
        near.stopping()
        assert far.hear() == {"STATUS": "opening", "EXTEND_TIMEOUT_USEC": "1500000"}
        assert far.hear() == {"READY": "1", "STATUS": "waiting", "WATCHDOG": "1"}
        assert far.hear() == {"STATUS": "offline: no route"}
        assert far.hear() == {"STOPPING": "1", "STATUS": "stopping"}
        near.close()
        near.alive()


def test_the_watchdog_is_fed_thrice_in_its_time(tmp_path: Path) -> None:
    """However often the loop says that it is alive."""
    clock = Clock()
    with listening(tmp_path / "notify") as far:
        near = Supervisor(far.address, 3.0, clock)
        for tenth in range(100):
            clock.now_s = tenth / 10
            near.alive()
        near.stopping()
        assert len(far.until(lambda message: "STOPPING" in message)) == 11
        near.close()


@pytest.mark.parametrize(
    ("environment", "fed"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "3000000"}, 1),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
    ],
)
def test_the_watchdog_is_fed_where_it_was_asked_for(tmp_path: Path, environment: dict[str, str], fed: int) -> None:
    """By the variables that systemd sets, for this process."""
    with listening(tmp_path / "notify") as far:
        near = Supervisor.from_environment({**environment, "NOTIFY_SOCKET": far.address})
        near.alive()
        near.stopping()
        assert len(far.until(lambda message: "STOPPING" in message)) == fed + 1
        near.close()


def test_nobody_needs_to_listen(tmp_path: Path) -> None:
    """Without a supervisor, with one that is gone, and with one that does not read, the service goes on."""
    Supervisor.from_environment({}).ready("x")
    with Supervisor.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1"}) as near:
        near.ready("x")
    with bell(tmp_path / "deaf"), Supervisor(str(tmp_path / "deaf"), 1e-9) as near:
        for _ in range(10_000):  # more than its queue holds
            near.alive()


def test_a_rest_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """At once, and it feeds the watchdog meanwhile."""
    stop = threading.Event()
    with listening(tmp_path / "notify") as far, Supervisor(far.address, 1e-6) as near:
        resting = threading.Thread(target=near.rest, args=[stop, 3600.0], daemon=True)
        resting.start()
        assert far.hear() == far.hear() == {"WATCHDOG": "1"}
        stop.set()
        resting.join(60.0)
        assert not resting.is_alive()
        assert near.rest(stop, 3600.0)
        assert not near.rest(threading.Event(), 0.0)


def test_what_a_status_says() -> None:
    """Phases, what forbids training, and why there is no link; nothing of the rest."""
    begins = {"event": "phase", "status": "begin", "phase": "tune", "round_id": "0123456789abcdef"}
    assert status_of(begins) == "round 0123456789ab: tune"
    assert status_of({**begins, "status": "end"}) is None
    forbids = {"event": "decision", "act": False, "reasons": {"hours": "08:00 is not in 22:00-06:30"}}
    assert status_of(forbids) == "not training: hours: 08:00 is not in 22:00-06:30"
    assert status_of({**forbids, "act": True}) is None
    assert status_of({"event": "clock-wrong", "reason": "it is 1970"}) == "clock-wrong: it is 1970"
    assert status_of({"event": "progress", "done": 1, "total": 2}) is None
