"""Health, readiness, metrics and log lines: asked of the real endpoints, read from real standard error."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_broker.errors import ConfigError
from cloud_broker.observing import metrics as metrics_module
from cloud_broker.observing.endpoints import LOOPBACK, Observed, telling_of
from cloud_broker.observing.metrics import WorkerMetrics
from cloud_broker.telling import Telling
from cloud_broker.workers.restarts import FIRST_S, MOST_S, STEADY_S, Restarts
from protocol.messages import Contribution, Forget, Report
from tests.broker_fixtures import FleetBroker, Peer
from tests.cloud_broker.test_service import config_of, serving
from tests.cloud_broker.test_workers import ask
from tests.ports import free_port


def values_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every number that Prometheus would read, by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


@pytest.mark.broker
def test_a_worker_tells_what_it_did(own_broker: FleetBroker, state_dir: Path) -> None:
    """Ready while the broker is there and not without it; what was answered, refused and deleted is counted."""
    config = config_of(own_broker, state_dir, observe_port=(port := free_port()))
    with serving(config), Peer(own_broker, own_broker.device("dev-a")) as device:
        device.listen()
        assert ask(port, "/healthz") == ask(port, "/readyz") == (200, "ok\n")
        device.say(Report("round-1", 1, {}), "report")
        device.say(Contribution(b"nonsense"), "bad")
        device.say(Forget(), "forget")
        for _ in range(3):
            device.hear()
        found = values_of(_settled(port, "coda_messages_total", 3))
        assert found["coda_messages_total", frozenset({("kind", "report")})] == 1
        assert found["coda_refused_total", frozenset({("kind", "contribution"), ("code", "malformed")})] == 1
        assert found["coda_service_seconds_count", frozenset({("kind", "forget")})] == 1
        assert found["coda_connected", frozenset()] == 1
        own_broker.broker.kill()
        _until(lambda: ask(port, "/readyz") == (503, "the broker is not connected\n"))
        assert ask(port, "/healthz")[0] == 200


def _settled(port: int, name: str, total: float) -> str:
    """The metrics, once those of that name sum up to ``total``: a message is counted after it is answered."""

    def there() -> bool:
        return sum(value for (found, _), value in values_of(ask(port, "/metrics")[1]).items() if found == name) == total

    _until(there)
    return ask(port, "/metrics")[1]


def _until(there: Any) -> None:
    deadline_s = time.monotonic() + 15
    while not there():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_device_makes_no_labels() -> None:
    """Topics of made-up kinds, which a device may write to, are counted as one: labels are few and name nobody."""
    metrics = WorkerMetrics("cloud")
    for number in range(100):
        metrics.served(f"ann-{number}", 0.0, 0.0)
        metrics.put_off(f"ann-{number}", 1.0)
        metrics.count({"event": "refused", "kind": f"ann-{number}", "code": "malformed"})
    found = values_of(metrics.text().decode())
    for name in ("coda_messages_total", "coda_put_off_total", "coda_refused_total"):
        assert [value for (said, _), value in found.items() if said == name] == [100]
    assert b"ann" not in metrics.text()


def test_a_worker_that_does_nothing_while_messages_wait_is_unwell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor may end it; one with nothing to do is well however long."""
    metrics = WorkerMetrics("cloud")
    monkeypatch.setattr(metrics_module, "_STUCK_S", -1.0)
    assert metrics.healthy() is None
    metrics.watch(lambda: True, lambda: 3)
    assert "3 messages wait" in (metrics.healthy() or "")


def test_stages_and_stops_of_rollouts_are_counted() -> None:
    """So that an alarm can be set on a rollout that stopped."""
    metrics = WorkerMetrics("cloud")
    for what in ("stage", "stage", "stopped"):
        metrics.count({"event": f"rollout-{what}", "rollout": "calmer"})
    found = values_of(metrics.text().decode())
    counts = {what: found["coda_task_rollouts_total", frozenset({("what", what)})] for what in ("stage", "stopped")}
    assert counts == {"stage": 2, "stopped": 1}


def test_only_loopback_is_answered_and_only_what_is_known() -> None:
    """The port listens on 127.0.0.1; any other path says what can be asked."""
    with telling_of(WorkerMetrics("cloud"), 0) as port:
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/readyz") == (503, "the broker is not connected\n")
        assert ask(port, "/../etc/passwd")[0] == 404
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.2", port))
        with (
            pytest.raises(ConfigError, match=rf"cannot listen at {LOOPBACK}:{port}"),
            telling_of(WorkerMetrics("cloud"), port),
        ):
            pass


def test_events_are_handed_on_whether_counted_or_not() -> None:
    """Being watched changes nothing of what is told."""
    told: list[dict[str, Any]] = []
    for metrics in (None, WorkerMetrics("cloud")):
        Observed(metrics).telling(Telling(told.append))({"event": "matched", "device": "d", "samples": 2})
    assert [event["samples"] for event in told] == [2, 2]


_LOGS = """
import logging
from cloud_broker.observing.structured_logs import about, configure_logs
configure_logs("json", "info")
with about(device="dev-a", round_id="r1"):
    logging.getLogger("cloud_broker.workers.handlers").warning("odd: %s", 7, extra={"token": "hush", "samples": 3})
logging.getLogger("other").info("nobody's")
logging.getLogger("other").debug("not written")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("other").exception("broken")
"""


def test_log_lines_say_what_they_are_about_and_hold_no_secret() -> None:
    """JSON on standard error: device and round where they are bound, none after; secrets left out by name."""
    done = subprocess.run([sys.executable, "-c", _LOGS], capture_output=True, text=True, check=True)
    odd, nobodys, broken = [json.loads(line) for line in done.stderr.splitlines()]
    assert (odd["event"], odd["level"], odd["device"], odd["round_id"], odd["samples"]) == (
        "odd: 7", "warning", "dev-a", "r1", 3,
    )  # fmt: skip
    assert "hush" not in done.stderr
    assert "device" not in nobodys
    assert "ZeroDivisionError" in broken["exception"]
    assert done.stdout == ""


def test_a_process_that_does_not_stay_up_is_started_ever_later() -> None:
    """At once after a long life, then half a second, doubling up to half a minute."""
    restarts = Restarts()
    assert [restarts.delay_s(1.0) for _ in range(4)] == [0.0, FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert [restarts.delay_s(1.0) for _ in range(40)][-1] == MOST_S
    assert restarts.delay_s(STEADY_S) == 0.0
    assert restarts.count == 45
