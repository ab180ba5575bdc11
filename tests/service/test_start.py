"""Starts that something is in the way of: the device serves before it needs a network, the time, or a program."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import pytest

from edge.client import Client
from edge.config import ApiConfig
from edge.local_api.http_wire import Answer, Request
from edge.local_api.server import Server
from tests.end_to_end.conftest import Device, device, model_files
from tests.ports import free_port
from tests.service.supervisor import WAIT_S, listening
from tests.service.test_life_cycle import _running, _status

__all__ = ["device", "model_files"]
MakeDevice = Callable[..., Device]


@pytest.mark.broker
def test_it_serves_with_nothing_else_in_order(device: MakeDevice, tmp_path: Path) -> None:
    """No broker, no certificate, an `openssl` that never answers, the socket of one that was killed: it answers.

    The status names the certificate, and a SIGABRT, such as a watchdog's, has each thread say what it does.
    """
    program = tmp_path / "bin" / "openssl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "api.sock"))
    api = ApiConfig(socket=tmp_path / "api.sock")
    config = device("bare", api=api, port=free_port(), cert_file=tmp_path / "none.crt", timeout_s=0.5).config
    path = f"{program.parent}:{os.environ['PATH']}"
    with listening(tmp_path / "notify") as far, _running(config, far, PATH=path) as process:
        far.until(lambda message: "READY" in message)
        with Client(str(tmp_path / "api.sock"), WAIT_S) as app:
            assert app.status()["model"] is None
            assert "none.crt" in far.until(_status("offline: "))[-1]["STATUS"]
            assert app.tell([{"kind": "click", "item": 3}])["taken"] == 1
        process.send_signal(signal.SIGABRT)
        said = process.communicate(timeout=WAIT_S)[1]
    assert "Fatal Python error: Aborted" in said
    assert "supervision.py" in said  # where it rests before it tries the link again


@pytest.mark.broker
def test_one_that_was_just_killed_may_still_hold_the_store(device: MakeDevice, tmp_path: Path) -> None:
    """A child that it had begun to start holds its files for a moment: that is waited for."""
    config = device("next", api=ApiConfig(socket=tmp_path / "api.sock"), port=free_port(), timeout_s=0.5).config
    config.state_dir.mkdir(parents=True)
    with (config.state_dir / "lock").open("w") as held, listening(tmp_path / "notify") as far:
        fcntl.flock(held, fcntl.LOCK_EX)
        with _running(config, far):
            far.until(_status("opening the store"))
            fcntl.flock(held, fcntl.LOCK_UN)
            far.until(lambda message: "READY" in message)


def _answer(_request: Request) -> Answer:
    return Answer(HTTPStatus.OK, {"model": "here"})


def test_an_address_that_is_taken_is_had_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other address serves meanwhile; both the fault and its end are told. What is no socket is not deleted."""
    monkeypatch.setattr("edge.local_api.listening.RETRY_S", 0.02)
    told: list[tuple[str, str | None]] = []
    had = threading.Event()

    def tell(name: str, fault: str | None) -> None:
        told.append((name, fault))
        if fault is None:
            had.set()

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with Server(_answer, tmp_path / "api.sock", port, tell), Client(str(tmp_path / "api.sock"), WAIT_S) as app:
            assert app.status()["model"] == "here"
            assert told == [("api.port", f"127.0.0.1:{port}: Address already in use")]
            other.close()
            assert had.wait(WAIT_S)
            with Client(port, WAIT_S) as late:
                assert late.status()["model"] == "here"
    assert told[1:] == [("api.port", None)]
    (tmp_path / "file").write_text("precious")
    with Server(_answer, tmp_path / "file", None, tell):
        pass
    assert (tmp_path / "file").read_text() == "precious"
    assert "Address already in use" in (told[-1][1] or "")
