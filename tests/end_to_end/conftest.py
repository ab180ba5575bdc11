"""A cloud in this process and devices in processes of their own, around a real Mosquitto."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.config import CloudConfig
from cloud_broker.models.registry import Registry
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.service import CloudService
from cloud_broker.storage.ledger import Ledger
from edge.config import EdgeConfig
from edge.service import EdgeService
from edge.storage.store import Store
from profiling.record import RoundRecord
from protocol.recipe import Recipe
from protocol.samples import SampleBatch
from tests.broker_fixtures import FLEET, FleetBroker
from tests.edge.conftest import ModelFiles, model_files, slotted_files
from tests.edge.samples import SCHEMA, samples
from tests.edge.test_link import config_for

__all__ = ["cloud", "device", "model_files", "slotted_files"]

WAIT_S = 60.0

Event = dict[str, Any]


def record_of(events: list[Event]) -> RoundRecord:
    """The record of the one round that was done."""
    [record] = [event["record"] for event in events if event["event"] == "round"]
    return RoundRecord.from_dict(record)


@dataclass(frozen=True)
class Cloud:
    """A running cloud service."""

    state_dir: Path
    events: list[Event]

    def reports(self, device: str) -> list[Event]:
        """Round records that arrived from a device."""
        with closing(Ledger(self.state_dir)) as ledger:
            return [record for _, record in ledger.reports(device)]

    def pool_size(self) -> int:
        """Samples in the pool on disk, but for forgotten ones."""
        with closing(SamplePool(self.state_dir / "pool", SCHEMA)) as pool:
            return len(pool.live_rows())


class RunningDevice:
    """A device's service in a thread, from entering to leaving; tells what it does."""

    def __init__(self, config: EdgeConfig) -> None:
        self._heard: queue.Queue[Event] = queue.Queue()
        self._stop = threading.Event()
        service = EdgeService(config, self._heard.put)
        self._thread = threading.Thread(target=service.run_forever, args=[self._stop], daemon=True)

    def __enter__(self) -> RunningDevice:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def hear(self, name: str) -> Event:
        """The next event of that name; raises queue.Empty if nothing happens for long."""
        while True:
            if (event := self._heard.get(timeout=WAIT_S))["event"] == name:
                return event


@pytest.fixture
def cloud(fleet_broker: FleetBroker, model_files: ModelFiles, tmp_path: Path) -> Callable[..., Any]:
    """Makes a context manager that serves a pool of two tastes with published models, by recipe."""

    @contextmanager
    def serve(
        recipe: Recipe, broker: FleetBroker = fleet_broker, models: ModelFiles = model_files, **values: Any
    ) -> Iterator[Cloud]:
        state_dir = tmp_path / "cloud"
        if not state_dir.exists():
            fill(state_dir, models)
        identity = broker.cloud()
        config = CloudConfig(
            fleet=FLEET,
            host=broker.host,
            port=broker.port,
            ca_file=identity.ca_file,
            cert_file=identity.cert_file,
            key_file=identity.key_file,
            state_dir=state_dir,
            recipe=recipe,
            pool=PoolOptions(max_samples_per_day=50_000, max_samples_per_contributor=50_000),
            **values,
        )
        events: list[Event] = []
        serving, stop = threading.Event(), threading.Event()

        def tell(event: Event) -> None:
            events.append(event)
            if event["event"] == "serving":
                serving.set()

        thread = threading.Thread(target=CloudService(config, tell).run, args=[stop], daemon=True)
        thread.start()
        try:
            assert serving.wait(WAIT_S)
            yield Cloud(state_dir, events)
        finally:
            stop.set()
            thread.join()

    return serve


def fill(state_dir: Path, models: ModelFiles) -> None:
    """Give a cloud its pool, once, and publish models."""
    with closing(SamplePool(state_dir / "pool", SCHEMA)) as pool:
        pool.add_many(Given(f"user-{n}", samples(50, taste=n % 2, seed=100 + n), "first") for n in range(20))
    with closing(Registry(state_dir)) as registry:
        files = (models.recommender.read_bytes(), models.classifier.read_bytes())
        registry.publish(SCHEMA, *files, {}, models.rows)


def _toml(table: Any, name: str = "") -> str:
    """A configuration as its file says it, tables last."""
    values = {name: value for name, value in vars(table).items() if value is not None}
    tables = {name: value for name, value in values.items() if is_dataclass(value)}
    plain = [f"{n} = {json.dumps(v, default=str)}" for n, v in values.items() if n not in tables]
    return "\n".join([f"[{name}]" if name else "", *plain, *(_toml(v, n) for n, v in tables.items())])


@dataclass
class DeviceProcess:
    """One run of a device's service."""

    process: subprocess.Popen[str]

    def events(self, until: Callable[[Event], bool] = lambda _event: False) -> list[Event]:
        """What it tells, up to and with the first event that ``until`` accepts, or until it ends."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(json.loads(line))
            if until(seen[-1]):
                break
        return seen

    def kill(self) -> list[Event]:
        """End it as a power cut would; what it told before."""
        self.process.kill()
        rest = self.events()
        self.process.wait()
        return rest

    def finish(self) -> list[Event]:
        """Let it end by itself; what it told since."""
        rest = self.events()
        assert self.process.wait(WAIT_S) == 0, self.errors()
        return rest

    def errors(self) -> str:
        """What it wrote on standard error; it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()


class Device:
    """A device's configuration and state, and runs of its service.

    Attributes:
        file: The configuration's.
    """

    def __init__(self, config: EdgeConfig) -> None:
        self.config = config
        self.file = config.state_dir.parent / f"{config.device}.toml"
        self.file.write_text(_toml(config))
        self._running: list[subprocess.Popen[str]] = []

    def add(self, batch: SampleBatch) -> None:
        """Give it local samples."""
        with self.store() as store:
            store.samples.add(batch)

    def store(self) -> Store:
        """Its state, while no run uses it."""
        return Store(self.config.state_dir)

    def run(self) -> DeviceProcess:
        """Start its service for one round."""
        command = [sys.executable, "-W", "error", "-m", "edge", "--config", str(self.file), "--once", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._running.append(process)
        return DeviceProcess(process)

    def stop(self) -> None:
        """End every run."""
        for process in self._running:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def device(fleet_broker: FleetBroker, tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Makes devices by name; their processes end with the test."""
    made: list[Device] = []

    def make(name: str, broker: FleetBroker = fleet_broker, **changes: Any) -> Device:
        config = config_for(broker, name, tmp_path / f"{name}-state")
        made.append(Device(EdgeConfig(**{**vars(config), **changes})))
        return made[-1]

    yield make
    for each in made:
        each.stop()
