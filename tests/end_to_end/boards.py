"""Boards that are kept up to date, and the yard where their releases are made.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.models.registry import Registry
from cloud_broker.releases.repository import ReleaseRepository
from cloud_broker.storage.ledger import Ledger
from cloud_broker.tasks.cohorts import Cohort
from edge.config import UpdateConfig
from edge.updates.handover import BASE_VARIABLE, RELEASE_VARIABLE, STDERR_VARIABLE
from edge.updates.release_state import ReleaseFolder
from protocol.recipe import Recipe
from protocol.releases import INTERRUPTED
from tests.edge.releases import Edits, bundle
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device, Event

WAIT_S = 90.0
RECIPE = Recipe(steps=20, learning_rate=0.2, classifier_steps=10, match_samples=50)


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


def first_round(one: Board) -> None:
    """Switch a board on, and have it done a round, so that a personal or shared model is served."""
    one.start()
    one.until(lambda event: event["event"] == "round")


def reported(one: Board, yard: Yard, number: int) -> Mapping[str, Any]:
    """What the cloud knows, once the outbox was delivered."""
    for _ in range(600):
        found = yard.outcome(number, one.device.config.device)
        if found is not None and found["outcome"] != INTERRUPTED:
            return found
        threading.Event().wait(0.1)
    raise AssertionError(f"no report of rollout {number}: {one.events[-5:]}")
