"""Updates of a real device process from a real cloud over a real Mosquitto: every bad one ends on the old version.

Releases are real wheels, installed by pip into environments of their own; see `tests.edge.releases`. What systemd does,
starting the service again when it ended badly, is done here by `Board`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import ChaosProxy
from cloud_broker.models.registry import Registry
from cloud_broker.releases import repository as release_repository
from cloud_broker.releases.repository import ReleaseRepository
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.cohorts import Cohort
from edge.config import UpdateConfig
from edge.round.report import software_version
from edge.scheduling.known_time import Belief
from edge.updates.handover import BASE_VARIABLE, RELEASE_VARIABLE, STDERR_VARIABLE
from edge.updates.release_state import MAX_STARTS, ReleaseFolder
from protocol.recipe import Recipe
from protocol.releases import (
    FAILED,
    INCONCLUSIVE,
    INSTALLED,
    INTERRUPTED,
    REFUSED,
    ROLLED_BACK,
    pack_metadata,
    unpack_metadata,
)
from tests.broker_fixtures import FleetBroker
from tests.edge.releases import Edits, bundle
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device, Event

pytestmark = pytest.mark.broker

WAIT_S = 90.0
RECIPE = Recipe(steps=20, learning_rate=0.2, classifier_steps=10, match_samples=50)
CRASHES_AT_START = {
    "edge/service.py": ("        self._config = config\n", "        raise SystemExit('this release is broken')\n")
}
CRASHES_AT_IMPORT = {"edge/storage/store.py": ("import fcntl\n", "import no_such_module\n")}
RANKS_NAN = {
    "edge/learning/model.py": (
        'return self._chunked(self._infer, features)["logit"]',
        'return self._chunked(self._infer, features)["logit"] * np.float32("nan")',
    )
}
NEVER_CONNECTS = {
    "edge/updates/trial.py": (
        "                return self._tools.session.link.open(_TRY_S)\n",
        "                raise LinkError('no way out')\n",
    )
}
HANGS_ON_TRIAL = {"edge/updates/trial.py": ("        timer.start()\n", "        threading.Event().wait()\n")}


class Board:
    """A board with its flashed software: starts the service again whenever it ends badly, as systemd does."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.folder = ReleaseFolder(device.config.state_dir)
        self.events: list[Event] = []
        self.starts = 0
        self._news: queue.Queue[Event] = queue.Queue()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._started = threading.Condition()
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> None:
        """Switch it on."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _supervise(self) -> None:
        hidden = (BASE_VARIABLE, RELEASE_VARIABLE, STDERR_VARIABLE, "NOTIFY_SOCKET", "RUNTIME_DIRECTORY")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        config = self.device.config.state_dir.parent / f"{self.device.config.device}.toml"
        command = [sys.executable, "-m", "edge.updates.handover", "--config", str(config), "--json"]
        while not self._stopping.is_set():
            self.starts += 1
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
            ) as process:
                self._process = process
                assert process.stdout is not None
                for line in process.stdout:
                    self.events.append(json.loads(line))
                    self._news.put(self.events[-1])

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event of that kind."""
        while True:
            event = self._news.get(timeout=WAIT_S)
            if wanted(event):
                return event

    def until_update(self, *stages: str) -> Event:
        """The next word of an update at one of these stages."""
        return self.until(lambda event: event["event"] == "update" and event["stage"] in stages)

    def cut_power(self) -> None:
        """End whatever runs, at once; it is switched on again by the supervisor."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)

    def switch_off(self) -> None:
        """End whatever runs, for good."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()  # one that hangs does not hear otherwise
        self._thread.join(WAIT_S)

    def running(self) -> str:
        """The version that runs, as the process itself says; by the folder of its interpreter."""
        assert self._process is not None
        command = Path(f"/proc/{self._process.pid}/cmdline").read_bytes().split(b"\0")
        return Path(command[0].decode()).parent.parent.name


@dataclass
class Yard:
    """Where releases are made, offered, and what came of them."""

    folder: Path
    cloud_dir: Path
    repository: ReleaseRepository
    first_root: Path

    def release(self, version: str, edits: Edits | None = None, **how: Any) -> str:
        """Build and sign a release; its name."""
        path = bundle(self.folder / f"coda-{version}.tar", version, edits, **how)
        name = self.repository.add(path, version=version)
        self.repository.publish()
        return name

    def offer(self, name: str, metadata: bytes | None = None, devices: tuple[str, ...] = ()) -> int:
        """Have the running cloud offer it, with the newest metadata or others; the rollout's number."""
        with closing(Registry(self.cloud_dir)) as registry, closing(Ledger(self.cloud_dir)) as ledger:
            whole = registry.blobs.put(self.repository.bundle(name))
            said = registry.blobs.put(metadata or self.repository.metadata())
            return ledger.rollouts.begin(name, said, whole.sha256, Cohort(devices=devices)).number

    def outcome(self, number: int, device: str) -> Mapping[str, Any] | None:
        """What the cloud was told by a device."""
        with closing(Ledger(self.cloud_dir)) as ledger:
            return ledger.rollouts.outcomes(number).get(device)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Keys, and no release yet."""
    (tmp_path / "bundles").mkdir()
    repository = ReleaseRepository.create(tmp_path / "releases", tmp_path / "keys")
    return Yard(tmp_path / "bundles", tmp_path / "cloud", repository, repository.root_path)


@pytest.fixture
def board(device: Callable[..., Device], yard: Yard) -> Iterator[Callable[..., Board]]:
    """Makes boards that trust the yard's keys and have samples; they are switched off after the test."""
    made: list[Board] = []

    def make(name: str, **changes: Any) -> Board:
        updates = {"root": yard.first_root, "trial_s": 60.0, **changes}
        place = {part: updates.pop(part) for part in ("host", "port") if part in updates}
        one = device(name, updates=UpdateConfig(**updates), **place)
        one.add(samples(40))
        made.append(Board(one))
        return made[-1]

    yield make
    for each in made:
        each.switch_off()


def _first_round(one: Board) -> None:
    """Switch a board on, and have it done a round, so that a personal or shared model is served."""
    one.start()
    one.until(lambda event: event["event"] == "round")


def _reported(one: Board, yard: Yard, number: int) -> Mapping[str, Any]:
    """What the cloud knows, once the outbox was delivered."""
    for _ in range(600):
        found = yard.outcome(number, one.device.config.device)
        if found is not None and found["outcome"] != INTERRUPTED:
            return found
        threading.Event().wait(0.1)
    raise AssertionError(f"no report of rollout {number}: {one.events[-5:]}")


def _stranger(yard: Yard, name: str) -> bytes:
    """Metadata of somebody else's keys, for the same bundle."""
    other = ReleaseRepository.create(yard.folder / "stranger", yard.folder / "stranger-keys")
    other.add(yard.folder / name, version="9.9.9")
    other.publish()
    return other.metadata()


def _altered(metadata: bytes) -> bytes:
    """Metadata whose timestamp says another version than was signed."""
    files = unpack_metadata(metadata)
    said = json.loads(files["timestamp.json"])
    said["signed"]["version"] += 1
    return pack_metadata({**files, "timestamp.json": json.dumps(said).encode()})


def test_every_bad_release_ends_on_the_old_version(
    cloud: Any, board: Callable[..., Board], yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other on one board: the flashed version runs after each, and the cloud is told why.

    Then a good one is installed, and an older one refused.
    """
    one = board("update-bad")

    def offered(name: str, outcome: str, why: str, metadata: bytes | None = None) -> None:
        said = _reported(one, yard, yard.offer(name, metadata))
        assert (said["outcome"], why in said["reason"]) == (outcome, True), said
        assert said["running"] == software_version()
        assert one.running() == Path(sys.prefix).name
        assert one.folder.current() is None

    with cloud(RECIPE) as service:
        _first_round(one)
        old = yard.repository.metadata()
        crashing = yard.release("0.2.0", CRASHES_AT_START)
        offered(crashing, ROLLED_BACK, "this release is broken")
        assert service.events[-1]["event"] == "rollout-halted"
        assert one.starts == 3  # the flashed one, and as often as a release on trial is started
        offered(crashing, REFUSED, "it failed here before")
        offered(yard.release("0.2.1", CRASHES_AT_IMPORT), FAILED, "no_such_module")
        offered(yard.release("0.2.2", RANKS_NAN), ROLLED_BACK, "ranks with scores that are no numbers")
        good = yard.release("0.3.0")
        offered(good, REFUSED, "not signed by the keys that are trusted", _stranger(yard, good))
        offered(good, REFUSED, "not signed by the keys that are trusted", _altered(yard.repository.metadata()))
        offered(good, REFUSED, "older than what this device has seen, a replay", old)
        with monkeypatch.context() as patch:
            patch.setitem(release_repository.LIFETIMES, "timestamp", timedelta(days=-1))
            yard.repository.publish()
        offered(good, REFUSED, "expired")
        yard.repository.publish()
        starts, said = one.starts, _reported(one, yard, yard.offer(good))
        assert (said["outcome"], said["running"], one.starts) == (INSTALLED, "0.3.0", starts)
        parts = ("candidates as the release before did", "trained one step", "reached the broker")
        assert all(part in said["reason"] for part in parts)
        replayed = _reported(one, yard, yard.offer(crashing))
        assert replayed["outcome"] == REFUSED
        assert "is not newer than release 4, which proved itself here" in replayed["reason"]
        assert one.running() == one.folder.current()


def test_a_cut_at_any_stage_ends_on_a_version_that_runs(cloud: Any, board: Callable[..., Board], yard: Yard) -> None:
    """SIGKILL while it downloads, installs and proves itself: the old version goes on, and what was begun is finished.

    Before, nothing is begun while the clock is not believed. A release that is always cut on trial is given up.
    """
    one = board("update-cut", trial_s=8.0)
    believed = Belief(time.time() + 30 * 86400, 0.0, "an earlier boot")
    (one.device.config.state_dir / "time.json").write_text(json.dumps(asdict(believed)))
    with cloud(RECIPE):
        _first_round(one)
        number = yard.offer(yard.release("0.2.0", filler_bytes=6 << 20))
        assert "is believed until NTP" in one.until_update("waits")["reasons"]["clock"]
        assert not (one.folder.path / "trust").exists()
        (one.device.config.state_dir / "time.json").unlink()
        one.cut_power()
        one.until(
            lambda event: event["event"] == "progress" and event["phase"] == "update" and event["total"] > 1 << 20
        )
        one.cut_power()
        assert "in the middle of its download" in one.until_update(INTERRUPTED)["reason"]
        one.until_update("install")
        assert one.running() == Path(sys.prefix).name
        one.cut_power()
        assert "in the middle of its install" in one.until_update(INTERRUPTED)["reason"]
        one.until_update("proving")
        one.cut_power()  # it is counted, and tried once more
        assert _reported(one, yard, number)["outcome"] == INSTALLED
        one.until_update(INSTALLED)
        kept = one.folder.current()
        number = yard.offer(yard.release("0.3.0", HANGS_ON_TRIAL))
        for _ in range(2):
            one.until_update("proving")
            one.cut_power()
        said = _reported(one, yard, number)
        assert (said["outcome"], said["running"]) == (ROLLED_BACK, "0.2.0")
        assert "started 2 times and ended, or was ended, before it had proved itself" in said["reason"]
        starts, said = one.starts, _reported(one, yard, yard.offer(yard.release("0.4.0", NEVER_CONNECTS)))
        assert (said["outcome"], one.starts) == (ROLLED_BACK, starts)  # by itself, at the end of its time
        assert "did not prove itself within 8 s, while reaching the broker (no way out)" in said["reason"]
        assert one.running() == one.folder.current() == kept


def test_a_broker_that_is_away_convicts_nobody(
    cloud: Any, board: Callable[..., Board], yard: Yard, fleet_broker: FleetBroker
) -> None:
    """A release on trial waits for it, over power cuts that count as no starts; too long, and it goes back.

    It is on no list of releases that failed, and is tried again by itself once the broker is there.
    """
    with ChaosProxy(fleet_broker.host, fleet_broker.port) as line, cloud(RECIPE):
        one = board("update-away", host="127.0.0.1", port=line.port, trial_s=2.0, away_s=8.0)
        _first_round(one)
        number = yard.offer(yard.release("0.2.0"))
        one.until_update("trial")
        line.refuse()
        for _ in range(MAX_STARTS):
            one.until_update("broker-away")
            one.cut_power()
        one.until_update("broker-away")
        reason = one.until_update(INCONCLUSIVE)["reason"]
        assert "the broker was away, for this release and any other; reaching the broker (" in reason
        assert (one.running(), one.folder.current()) == (Path(sys.prefix).name, None)
        assert (one.folder.read().failed, one.starts) == ({}, 1 + MAX_STARTS)
        line.refuse(False)
        one.until_update(INSTALLED)
        for _ in range(600):
            if (yard.outcome(number, "update-away") or {}).get("outcome") == INSTALLED:
                break
            threading.Event().wait(0.1)
        else:
            raise AssertionError(one.events[-5:])
        assert one.running() == one.folder.current()
