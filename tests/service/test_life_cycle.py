"""The service's real process, as its unit starts it, before a supervisor's real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.client import Client
from edge.config import ApiConfig, EdgeConfig
from edge.feedback.labelling import EventRules
from edge.service import EdgeService
from edge.supervision import Supervisor
from protocol.recipe import Recipe
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device, Event, cloud, device, model_files
from tests.ports import free_port
from tests.service.supervisor import WAIT_S, Listener, listening

__all__ = ["cloud", "device", "model_files"]
pytestmark = pytest.mark.broker
MakeDevice = Callable[..., Device]
WATCHDOG_S = 0.3


def _fed(message: dict[str, str]) -> bool:
    return message == {"WATCHDOG": "1"}


def _status(text: str) -> Callable[[dict[str, str]], bool]:
    return lambda message: text in message.get("STATUS", "")


@contextmanager
def _running(config: EdgeConfig, far: Listener, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`coda edge run` as the unit has it; killed in the end."""
    told = {"NOTIFY_SOCKET": far.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)), **environment}
    command = [str(Path(sys.executable).parent / "coda"), "edge", "run", "--config", str(Device(config).file)]
    process = subprocess.Popen(command, env={**os.environ, **told}, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_serves_without_a_network_and_tells_that_it_lives(device: MakeDevice, tmp_path: Path) -> None:
    """READY comes when the API answers, the watchdog is fed while there is nothing to do, SIGTERM is an orderly end.

    A process that stands still feeds it no more.
    """
    api = ApiConfig(socket=tmp_path / "api.sock")
    config = device("lonely", api=api, port=free_port(), timeout_s=0.5).config
    with listening(tmp_path / "notify") as far, _running(config, far) as process:
        begun = far.until(lambda message: "READY" in message)
        assert [message for message in begun if _fed(message)] == []
        with Client(str(tmp_path / "api.sock"), WAIT_S) as app:
            assert app.status()["model"] is None
            far.until(_status("offline: "))
            for _ in range(4):
                far.until(_fed)
            process.send_signal(signal.SIGSTOP)
            _await_state(process.pid, "T")
            assert far.falls_silent(3 * WATCHDOG_S)
            process.send_signal(signal.SIGCONT)
            far.until(_fed)
            process.send_signal(signal.SIGTERM)
            last = far.until(lambda message: "STOPPING" in message)[-1]
        assert last == {"STOPPING": "1", "STATUS": "stopping"}
        assert process.wait(WAIT_S) == 0
    assert not (tmp_path / "api.sock").exists()


def _await_state(pid: int, state: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_the_watchdog_is_fed_while_it_trains(cloud: Any, device: MakeDevice, tmp_path: Path) -> None:
    """By the steps of a tuning that takes longer than the watchdog's time."""
    one = device("training", api=ApiConfig(socket=tmp_path / "api.sock"), events=EventRules(keep_days=36500.0))
    one.add(samples(40, seed=1))
    recipe = Recipe(steps=10_000, classifier_steps=50, min_local_samples=10)
    with cloud(recipe), listening(tmp_path / "notify") as far, _running(one.config, far):
        far.until(_status(": tune"))
        trained = far.until(_status(": gate"))
        assert sum(map(_fed, trained)) >= 2
        far.until(_status("waiting for a task"))
        far.until(_fed)


def test_a_loop_that_hangs_starves_the_watchdog(device: MakeDevice, tmp_path: Path) -> None:
    """Though the process lives and its API answers: no thread feeds in the loop's place."""
    hung, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def hang(event: Event) -> None:
        if event["event"] == "offline":
            hung.set()
            go_on.wait(WAIT_S)

    config = device("hung", api=ApiConfig(socket=tmp_path / "api.sock"), port=free_port(), timeout_s=0.5).config
    with listening(tmp_path / "notify") as far, Supervisor(far.address, WATCHDOG_S) as near:
        thread = threading.Thread(target=EdgeService(config, hang, near).run_forever, args=[stop], daemon=True)
        thread.start()
        far.until(_fed)
        assert hung.wait(WAIT_S)
        assert far.falls_silent(3 * WATCHDOG_S)
        with Client(str(tmp_path / "api.sock"), WAIT_S) as app:
            assert app.status()["model"] is None
        go_on.set()
        far.until(_fed)
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_after_crashes_it_waits_before_it_starts(device: MakeDevice, tmp_path: Path) -> None:
    """The third start in a row says so, asks for time, and ends at once when told to."""
    config = device("crashing").config
    config.state_dir.mkdir(parents=True, exist_ok=True)
    (config.state_dir / "device.db").write_bytes(b"damaged")
    with listening(tmp_path / "notify") as far:
        for _ in range(2):
            with _running(config, far, STATE_DIRECTORY=str(tmp_path)) as process:
                assert process.wait(WAIT_S) == 1
        with _running(config, far, STATE_DIRECTORY=str(tmp_path)) as process:
            said = far.until(_status("ended badly"))[-1]
            assert said["STATUS"] == "ended badly 2 times in a row; starting in 10 s"
            assert int(said["EXTEND_TIMEOUT_USEC"]) > 10_000_000
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
