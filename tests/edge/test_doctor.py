"""Each common fault is found, named, and comes with what to do; a device that is well has none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge import health
from edge.config import EdgeConfig
from edge.doctor import examine
from edge.health import Finding
from edge.storage.disk import Fault
from edge.storage.round_store import ABANDONED
from edge.storage.store import Store
from profiling.network import NetworkBytes
from profiling.record import Outcome, PhaseRecord, RoundRecord
from protocol.messages import BlobRef, Task
from protocol.purposes import MODEL
from protocol.recipe import Recipe
from tests.broker_fixtures import FleetBroker
from tests.edge.conftest import ModelFiles
from tests.edge.samples import SCHEMA
from tests.edge.test_link import config_for
from tests.ports import free_port

pytestmark = pytest.mark.broker
DAY_S = 86400.0


@pytest.fixture
def config(fleet_broker: FleetBroker, tmp_path: Path, model_files: ModelFiles) -> EdgeConfig:
    """A device that is well: enrolled, with a model and a round behind it."""
    config = config_for(fleet_broker, "doctor", tmp_path / "state")
    blob = BlobRef(model_files.recommender_sha256, model_files.recommender.stat().st_size)
    with Store(config.state_dir) as store:
        shutil.copy(model_files.recommender, store.blobs.path(blob.sha256))
        stored = store.rounds.begin(Task(1, SCHEMA.to_dict(), Recipe().to_dict(), blob, blob), "sync")
        store.rounds.serve(blob.sha256, stored.round_id, None)
        store.rounds.close(stored.round_id, "done", _record(stored.round_id, "kept-h0"))
        store.data_use.add({MODEL: NetworkBytes(1, 20, 3, 40, 5, 60)}, stored.round_id)
    return config


def _record(round_id: str, decision: str) -> RoundRecord:
    outcome = Outcome(decision, "why", 1, 2, 3)
    return RoundRecord(round_id, "d1", 1, 0.0, {}, {}, (PhaseRecord("sync", 1.0, 0.5, 0.1),), outcome)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A cool board with memory to spare (emulated)."""
    return _machine(tmp_path / "machine", 40, 900)


def _machine(root: Path, degrees_c: int, free_mib: int) -> Path:
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "type").write_text("cpu\n")
    (zone / "temp").write_text(f"{degrees_c}000\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {free_mib << 10} kB\n")
    return root


def _bad(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.ok is False}


def test_a_device_that_is_well_has_no_fault(config: EdgeConfig, machine: Path) -> None:
    """Every check can tell, against a real broker."""
    findings = examine(config, machine)
    assert [(finding.check, finding.detail) for finding in findings if finding.ok is not True] == []
    assert len({finding.check for finding in findings}) == len(findings) >= 10


def _no_clock(_config: EdgeConfig) -> float:
    return 1000.0


def _expired(_config: EdgeConfig) -> float:
    return time.time() + 4000 * DAY_S


@pytest.mark.parametrize(("clock", "check"), [(_no_clock, "clock"), (_expired, "certificate")])
def test_time(config: EdgeConfig, machine: Path, clock: Callable[[EdgeConfig], float], check: str) -> None:
    """A clock that was never set, and a certificate that has expired."""
    assert check in _bad(examine(config, machine, clock(config)))


def test_an_unreachable_broker(config: EdgeConfig, machine: Path) -> None:
    """Nobody listens there, or the name has no address."""
    assert [*_bad(examine(replace(config, port=free_port()), machine))] == ["broker"]
    found = _bad(examine(replace(config, host="nowhere.invalid"), machine))
    assert [*found] == ["name", "broker"]
    assert "DNS" in found["name"].advice


def test_a_stranger_is_refused(config: EdgeConfig, machine: Path, tmp_path: Path) -> None:
    """A broker that does not know this device's authority says so after the handshake; ours does not know it either."""
    from cloud_broker.mosquitto.broker import write_broker_directory

    other = write_broker_directory(tmp_path / "other", "other", port=free_port(), cloud_names=("cloud",))
    stranger = other.authority().device("doctor")
    found = _bad(examine(replace(config, cert_file=stranger.cert_file, key_file=stranger.key_file), machine))
    assert [*found] == ["broker"]
    assert "refuses this device" in found["broker"].detail
    found = _bad(examine(replace(config, ca_file=stranger.ca_file), machine))
    assert "certificate is refused" in found["broker"].detail


def test_keys_and_certificates(config: EdgeConfig, machine: Path, tmp_path: Path) -> None:
    """A certificate that is missing, and a key that others may read."""
    found = _bad(examine(replace(config, cert_file=tmp_path / "none.pem"), machine))
    assert {"certificate", "key"} <= {*found}
    key = tmp_path / "open.key"
    key.write_bytes(config.key_file.read_bytes())
    key.chmod(0o644)
    found = _bad(examine(replace(config, key_file=key), machine))
    assert found["key"].advice == f"run: chmod 600 {key}"


def test_the_disk(config: EdgeConfig, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room, and a folder that cannot be written."""
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1 << 60)
    assert [*_bad(examine(config, machine))] == ["disk"]
    monkeypatch.setattr(health, "probe", lambda _folder: Fault.READ_ONLY)
    assert "is read-only; rankings go on" in _bad(examine(config, machine))["disk"].detail


def test_what_is_on_disk(config: EdgeConfig, machine: Path) -> None:
    """A spoilt model, then a damaged database."""
    (blob,) = (config.state_dir / "blobs").iterdir()
    blob.write_bytes(b"spoilt")
    assert [*_bad(examine(config, machine))] == ["model"]
    path = config.state_dir / "device.db"
    path.write_bytes(b"x" * path.stat().st_size)
    found = _bad(examine(config, machine))
    assert "store" in found
    assert "coda edge reset" in found["store"].advice


def test_a_folder_of_another_user(config: EdgeConfig, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked at is said so, with what to do, and hides nothing of the rest (emulated: root may look)."""

    def refused(*_: object, **_named: object) -> None:
        raise PermissionError(13, "Permission denied", "device.db")

    monkeypatch.setattr("edge.doctor.Database", refused)
    findings = {finding.check: finding for finding in examine(config, machine)}
    assert findings["broker"].ok is findings["disk"].ok is True
    for check in ("store", "model", "rounds"):
        assert findings[check].ok is None
        assert "as root" in findings[check].advice


def test_a_file_in_place_of_the_folder(config: EdgeConfig, machine: Path, tmp_path: Path) -> None:
    """It is told."""
    (tmp_path / "file").touch()
    found = _bad(examine(replace(config, state_dir=tmp_path / "file"), machine))
    assert "not a folder" in found["disk"].detail


def test_a_missing_runtime(config: EdgeConfig, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to install one."""
    monkeypatch.setenv("CODA_RUNTIME", "nothing")
    assert "pip install" in _bad(examine(config, machine))["runtime"].advice


def test_a_hot_board_without_memory(config: EdgeConfig, tmp_path: Path) -> None:
    """Both are told."""
    assert {*_bad(examine(config, _machine(tmp_path / "poor", 90, 20)))} == {"heat", "memory"}


def test_under_voltage(config: EdgeConfig, machine: Path) -> None:
    """The Pi's firmware remembers it since boot (emulated)."""
    program = machine / "usr/bin/vcgencmd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho throttled=0x10000\n")
    program.chmod(0o755)
    assert "power supply" in _bad(examine(config, machine))["power"].advice


def test_spent_data_and_an_abandoned_round(config: EdgeConfig, machine: Path) -> None:
    """The budget is told, and why the last round ended."""
    with Store(config.state_dir) as store:
        served = store.rounds.served_task()
        assert served is not None
        stored = store.rounds.begin(served, "sync")
        store.rounds.close(stored.round_id, ABANDONED, _record(stored.round_id, ABANDONED))
    assert {*_bad(examine(replace(config, data_budget_bytes_per_month=10), machine))} == {"data", "rounds"}


def test_a_device_that_never_ran(config: EdgeConfig, machine: Path, tmp_path: Path) -> None:
    """Nothing is wrong, and nothing is made."""
    fresh = replace(config, state_dir=tmp_path / "fresh")
    assert _bad(examine(fresh, machine)) == {}
    assert not fresh.state_dir.exists()
