"""A disk that is full or read-only, under a service that runs or starts: rankings go on, events are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge import overview
from edge.client import ApiError, Client
from edge.config import EdgeConfig, load_config
from edge.errors import DiskError
from edge.feedback.events import Event, EventKind
from edge.feedback.labelling import EventRules
from edge.health import disk
from edge.storage.database import Database
from edge.storage.disk import Fault, probe
from edge.storage.store import Store
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.broker_fixtures import FLEET, FleetBroker
from tests.disk_fixtures import SmallDisk, small_disk
from tests.edge.conftest import ModelFiles
from tests.edge.samples import SCHEMA

__all__ = ["small_disk"]

pytestmark = pytest.mark.broker
WAIT_S = 60.0
CLICKS = [{"kind": "click", "item": item, "features": {"genres": [1, 2]}} for item in range(1, 40)]
RULES = EventRules(keep_days=36500)


class _Device:
    """The service as a process, whose state is on the small disk and whose broker is there without a cloud."""

    def __init__(self, folder: Path, disk: SmallDisk, files: ModelFiles, fleet: FleetBroker) -> None:
        self._socket, self._file = folder / "api.sock", folder / "device.toml"
        identity = fleet.device("bad-disk")
        values = {
            "device": identity.name, "fleet": FLEET, "host": fleet.host, "state_dir": disk.path / "state",
            "ca_file": identity.ca_file, "cert_file": identity.cert_file, "key_file": identity.key_file,
        }  # fmt: skip
        lines = [f'{name} = "{value}"' for name, value in values.items()]
        tables = f'[events]\nkeep_days = 36500\n[api]\nsocket = "{self._socket}"\n'
        self._file.write_text("\n".join([*lines, f"port = {fleet.port}", tables]))
        self.config: EdgeConfig = load_config(self._file)
        self.model = files.recommender_sha256[:12]
        with Store(self.config.state_dir) as store:
            shutil.copy(files.recommender, store.blobs.path(files.recommender_sha256))
            blob = BlobRef(files.recommender_sha256, files.recommender.stat().st_size)
            stored = store.rounds.begin(Task(1, SCHEMA.to_dict(), Recipe().to_dict(), blob, blob), "sync")
            store.rounds.serve(blob.sha256, stored.round_id, None)
            store.rounds.close(stored.round_id, "done")

    @contextmanager
    def running(self, *, killed: bool = False) -> Iterator[Client]:
        """An app of the service while it runs; at the end that is told to stop, or killed."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "edge", "--config", str(self._file), "--json"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr, Client(str(self._socket), WAIT_S) as client:
            try:
                _await_ranking(client, process)
                yield client
                assert process.poll() is None
            finally:
                (process.kill if killed else process.terminate)()
                process.wait(WAIT_S)
        assert killed or process.returncode == 0


def _await_ranking(client: Client, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            client.rank([1])
        except OSError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)  # the process is starting
        else:
            return


@pytest.fixture
def device(tmp_path: Path, small_disk: SmallDisk, model_files: ModelFiles, fleet_broker: FleetBroker) -> _Device:
    """A device that serves h0."""
    return _Device(tmp_path, small_disk, model_files, fleet_broker)


def _refused(client: Client, device: _Device) -> tuple[int, str]:
    """How events are refused, by status and word, while rankings go on."""
    with pytest.raises(ApiError) as refused:
        _tell_on(client)
    assert client.rank([1, 2, 3])["model"] == device.model
    return refused.value.status, refused.value.code


def _tell_on(client: Client) -> None:
    """What is left of the log's room takes some."""
    for _ in range(1000):
        client.tell(CLICKS)


def _told(client: Client, device: _Device) -> dict[str, Any]:
    """What the API says, and beside it `coda edge status` and `doctor`."""
    with Database(device.config.state_dir / "device.db", read_only=True) as database:
        beside = overview.status(device.config, database)
    found = disk(device.config.state_dir)
    assert beside["disk"] == found.detail
    assert beside["model"] == device.model
    assert (found.ok is False) == (client.status()["disk"] != "ok")
    return client.status()


def test_a_disk_that_fills_up(device: _Device, small_disk: SmallDisk) -> None:
    """Refuses events, each counted, until there is room; rankings go on, and what was taken stays."""
    with device.running() as client:
        assert client.tell(CLICKS)["samples"] == len(CLICKS)
        small_disk.fill()
        assert _refused(client, device) == (507, "disk-full")
        found = _told(client, device)
        assert (found["disk"], found["events_refused"]) == ("full", len(CLICKS))
        small_disk.make_room()
        taken = client.tell(CLICKS)["taken"]
        assert (taken, _told(client, device)["disk"]) == (len(CLICKS), "ok")
    events = [line for line in overview.log_lines(device.config.state_dir) if line["event"].startswith("disk")]
    assert events[-1]["event"] == "disk-usable"
    assert events[-1]["events_refused"] == len(CLICKS)


@pytest.mark.parametrize("killed", [False, True])
def test_a_start_on_a_full_disk(device: _Device, small_disk: SmallDisk, killed: bool) -> None:
    """Serves what the disk holds, whether the store was closed in order or not; and takes events once there is room."""
    with device.running(killed=killed) as client:
        client.tell(CLICKS)
    small_disk.fill()
    with device.running(killed=killed) as client:
        assert _refused(client, device) == (507, "disk-full")
        assert _told(client, device)["disk"] == "full"
    with device.running() as client:
        small_disk.make_room()
        assert client.tell(CLICKS)["taken"] == len(CLICKS)
        assert _told(client, device)["disk"] == "ok"


def test_a_disk_that_fails(device: _Device, small_disk: SmallDisk) -> None:
    """The kernel makes it read-only under open files: events are refused, rankings go on, nothing crashes."""
    with device.running() as client:
        client.tell(CLICKS)
        small_disk.fail()
        assert _refused(client, device) == (503, "disk-read-only")
        found = _told(client, device)
        assert (found["disk"], found["events_refused"]) == ("read-only", len(CLICKS))
    with device.running() as client:  # as systemd starts it again
        assert _refused(client, device) == (503, "disk-read-only")


@pytest.mark.parametrize("killed", [False, True])
def test_a_start_on_a_read_only_disk(device: _Device, small_disk: SmallDisk, killed: bool) -> None:
    """Serves, and takes events by itself once the disk can be written."""
    with device.running(killed=killed) as client:
        client.tell(CLICKS)
    small_disk.remount("ro")
    with device.running() as client:
        assert _refused(client, device) == (503, "disk-read-only")
        assert _told(client, device)["disk"] == "read-only"
        small_disk.remount("rw")
        assert client.tell(CLICKS)["taken"] == len(CLICKS)
        assert _told(client, device)["disk"] == "ok"


def test_a_first_start_on_a_bad_disk_says_so(small_disk: SmallDisk) -> None:
    """There is nothing to serve."""
    (small_disk.path / "state").mkdir()
    small_disk.remount("ro")
    with pytest.raises(DiskError, match="read-only"):
        Store(small_disk.path / "state")


def test_nothing_of_a_refused_step_stays(small_disk: SmallDisk) -> None:
    """Neither on disk nor in memory, and the next step that fits is whole."""
    with Store(small_disk.path / "state") as store:
        events = [Event(EventKind.CLICK, item, 10) for item in range(1, 50)]
        store.events.add(events, SCHEMA, RULES)
        small_disk.fill()
        taken, fault = len(events), ""
        while not fault:
            try:
                store.events.add(events, SCHEMA, RULES)
                taken += len(events)
            except DiskError as error:
                fault = error.fault
        assert fault == Fault.FULL.value
        assert (store.events.taken, store.events.histories.newest("liked", 3)) == (taken, [47, 48, 49])
        assert store.samples.account.made == store.samples.count
        small_disk.make_room()
        store.events.add(events, SCHEMA, RULES)
        assert store.events.taken == taken + len(events)


def test_a_folder_is_probed_by_writing(small_disk: SmallDisk) -> None:
    """And the probe leaves nothing behind."""
    assert probe(small_disk.path) is None
    small_disk.fill()
    assert probe(small_disk.path) is Fault.FULL
    small_disk.make_room()
    before = sorted(small_disk.path.iterdir())
    assert probe(small_disk.path) is None
    assert sorted(small_disk.path.iterdir()) == before
    small_disk.fail()
    assert probe(small_disk.path) is Fault.READ_ONLY
