"""`coda fleet` and `coda edge enroll`, as an operator and a board use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_broker.membership.identity import Identity
from cloud_broker.mosquitto.broker import Broker, BrokerConfig
from tests.broker_fixtures import FleetBroker, Peer
from tests.coda.running import ENVIRONMENT, ROOT, coda_here, start_coda
from tests.ports import free_port

pytestmark = pytest.mark.broker


def _listed(directory: Path) -> dict[str, str]:
    done = coda_here("fleet", "list", "--dir", str(directory), "--json")
    return {member["name"]: member["state"] for member in json.loads(done.stdout)}


def _enroll(token: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coda", "edge", "enroll", "-", "--dir", str(home)]
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, input=token, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_device_joins_and_leaves(tmp_path: Path) -> None:
    """From an empty folder to a member that is connected, to one that is cut off; the token is never repeated."""
    fleet, home = tmp_path / "fleet", tmp_path / "device"
    ports = ("--port", str(free_port()), "--enrolment-port", str(free_port()))
    made = coda_here(
        "fleet", "init", "--dir", str(fleet), "--fleet", "home", "--address", "localhost", *ports, "--json"
    )
    assert len(json.loads(made.stdout)["authority_sha256"]) == 64
    assert coda_here("broker", "init", str(fleet), "--host", "127.0.0.1").returncode == 0
    invited = coda_here("fleet", "enroll", "pi-1", "--dir", str(fleet), "--json")
    token = json.loads(invited.stdout)["token"]
    assert _listed(fleet) == {
        "pi-1": "invited",
        "cloud": "enrolled",
        "CoDA broker": "enrolled",
        "CoDA enrolment": "enrolled",
    }
    service = start_coda("fleet", "serve", "--dir", str(fleet), "--host", "127.0.0.1", "--json")
    try:
        assert service.stdout is not None
        assert json.loads(service.stdout.readline())["event"] == "enrolling"
        joined = _enroll(token, home)
        assert joined.returncode == 0, joined.stderr
        again = _enroll(token, tmp_path / "thief")
        assert again.returncode == 1
        assert "unknown, used or expired" in again.stderr
        config = BrokerConfig.open(fleet)
        pem = home / "identity.pem"
        with Broker(config) as broker:
            member = Identity("pi-1", home / "ca.crt", pem, pem)
            with Peer(FleetBroker(config, broker), member):
                assert _listed(fleet)["pi-1"] == "enrolled"
            revoked = coda_here("fleet", "revoke", "pi-1", "--dir", str(fleet), "--json")
        said = json.loads(revoked.stdout)
        assert (said["certificates"], said["broker_told"], said["disconnected"]) == (1, True, True)
        assert _listed(fleet)["pi-1"] == "revoked"
    finally:
        service.terminate()
        _, errors = service.communicate(timeout=30)
    assert "enrolled pi-1" in errors
    assert token[6:] not in errors + joined.stderr + again.stderr


def test_faults_are_one_line(tmp_path: Path) -> None:
    """No fleet, a damaged token: exit code 1 and a line that says what to do."""
    for arguments, said in [
        (("fleet", "revoke", "pi-1", "--dir", str(tmp_path)), "coda fleet init"),
        (("edge", "enroll", "coda1.abc", "--dir", str(tmp_path)), "token is damaged"),
    ]:
        done = coda_here(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert said in done.stderr
