"""A device whose clock is wrong: it serves, says so, and joins when the time is right."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.client import Client
from edge.config import ApiConfig
from edge.scheduling.clock import ClockWatch, clock_fault
from edge.scheduling.known_time import KnownTime
from edge.service import EdgeService
from edge.tunnel.validity import validity
from protocol.recipe import Recipe
from tests.broker_fixtures import FleetBroker
from tests.edge.test_link import config_for
from tests.end_to_end.conftest import Device, Event, cloud, device, model_files
from tests.service.test_known_time import NOW_S, Board

__all__ = ["cloud", "device", "model_files"]
pytestmark = pytest.mark.broker
WAIT_S = 60.0


def _of_tomorrow(certificate: Path, authority_key: Path, path: Path) -> Path:
    """The same certificate, signed by the same authority, valid from tomorrow on: as one of today is, yesterday."""
    old = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = serialization.load_pem_private_key(authority_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    new = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), old.serial_number + 1, tomorrow, tomorrow + timedelta(days=90)
    )
    for extension in old.extensions:
        new = new.add_extension(extension.value, extension.critical)
    path.write_bytes(new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_a_certificate_that_is_not_valid_yet_is_waited_out(
    cloud: Any,
    fleet_broker: FleetBroker,
    device: Callable[..., Device],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The API answers, the clock is named as the fault, and the first round is done once the certificate is valid.

    The test cannot set the machine's clock back, so the certificate is of tomorrow.
    """
    monkeypatch.setattr("edge.service.RETRY_S", 0.05)
    one = device("early", api=ApiConfig(socket=tmp_path / "api.sock"))
    valid = one.config.cert_file.read_bytes()
    early = _of_tomorrow(
        one.config.cert_file, fleet_broker.config.authority().directory / "ca.key", tmp_path / "early.crt"
    )
    config = replace(one.config, cert_file=early)
    heard: queue.Queue[Event] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=EdgeService(config, heard.put).run_forever, args=[stop], daemon=True)
    thread.start()
    try:
        assert "certificate begins" in _hear(heard, "clock-wrong")["reason"]
        assert "certificate" in _hear(heard, "offline")["reason"]
        with Client(str(tmp_path / "api.sock"), WAIT_S) as app:
            assert app.status()["model"] is None
        assert "the link waits for NTP" in (clock_fault(config, KnownTime(config.state_dir / "time.json")) or "")
        early.write_bytes(valid)
        with cloud(Recipe()):
            assert _hear(heard, "round")["record"]["outcome"]["samples_local"] == 0
            stop.set()
            thread.join(WAIT_S)
    finally:
        stop.set()
        thread.join(WAIT_S)


def _hear(heard: queue.Queue[Event], name: str) -> Event:
    while True:
        if (event := heard.get(timeout=WAIT_S))["event"] == name:
            return event


def test_a_wrong_clock_is_told_once_and_when_it_is_right_again(fleet_broker: FleetBroker, tmp_path: Path) -> None:
    """With the reason, whichever way it is wrong."""
    config = config_for(fleet_broker, "watched", tmp_path / "state")
    begins_s = validity(config.cert_file).begins_s
    board, told = Board(), list[Any]()
    board.reading = replace(board.reading, unix_s=100.0)
    watch = ClockWatch(config, board.known(tmp_path), told.append, lambda: board.reading.unix_s)
    assert watch.look()
    assert watch.look()
    board.jumps(begins_s, confirmed=True)
    assert not watch.look()
    board.jumps(NOW_S, confirmed=False)
    assert watch.look()
    assert [event["event"] for event in told] == ["clock-wrong", "clock-right", "clock-wrong"]
    assert "the clock says 1970-01-01 00:01 UTC" in told[0]["reason"]
    assert "until NTP or a day's steady run confirms it" in told[2]["reason"]
