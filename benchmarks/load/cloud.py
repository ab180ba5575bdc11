"""A broker and a cloud of several workers, as processes of their own over one folder, with their processor time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil

from cloud_broker.config import worker_name
from cloud_broker.matching.index import SampleIndex
from cloud_broker.models.publish import publish_models
from cloud_broker.models.registry import Registry
from cloud_broker.mosquitto.broker import Broker, free_port, write_broker_directory
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.storage.copying import copy_state
from cloud_broker.storage.place import Place, StorageOptions
from coda.demo_data import choose_devices, load_or_generate
from coda.simulation.herd import Order
from evaluation.samples import Labels

FLEET = "load"
_UP_TIMEOUT_S = 120.0
_MOST_AT_REST_S = 0.1  # processor time of all workers in a second in which nobody asks anything


def fill(state_dir: Path, dataset: str) -> int:
    """Give a cloud a pool of a data set's ratings, and a model trained on it for one epoch; how many samples."""
    data = choose_devices(load_or_generate(dataset, 1, None, print), next(iter(Labels)), 4, 100, 1)
    split, names = data.split, data.interactions.user_names
    with closing(SamplePool(state_dir / "pool", split.schema)) as pool, closing(Registry(state_dir)) as registry:
        pool.add_many(
            Given(f"user-{names[user]}", split.pool.take(split.pool_owner == user), "import")
            for user in np.unique(split.pool_owner)
        )
        model = publish_models(pool, registry, ModelOptions(epochs=1))
        path, sha256 = registry.blobs.path(model.recommender.sha256), model.recommender.sha256
        index = SampleIndex(pool, path, sha256, rows=registry.row_file(model))
        index.tidy()
        index.close()
        return len(pool)


class LoadedCloud:
    """A context manager; what it leaves in its folder can be opened afterwards."""

    def __init__(self, folder: Path, filled: Path, workers: int, database_url: str = "", **values: Any) -> None:
        """Prepare a broker and a cloud in ``folder`` over a copy of a filled state.

        Args:
            folder: For everything; made here.
            filled: What `fill` filled.
            workers: How many.
            database_url: An empty database that the filled state is copied to; empty for SQLite in the folder.
            values: Further values of the cloud's configuration.
        """
        self.state_dir = folder / "state"
        shutil.copytree(filled, self.state_dir)
        self.place = Place(self.state_dir, StorageOptions(database_url=database_url))
        if database_url:
            copy_state(Place(self.state_dir), self.place, lambda _line: None)
        self.workers = workers
        names = [worker_name("cloud", number) for number in range(1, workers + 1)]
        self._config = write_broker_directory(folder / "fleet", FLEET, port=free_port(), cloud_names=names)
        self.broker = Broker(self._config)
        self.authority = self._config.authority()
        self.host, self.port = self._config.connect_host, self._config.port
        identity = self.authority.cloud_worker("cloud")
        files = {"ca_file": identity.ca_file, "cert_file": identity.cert_file, "key_file": identity.key_file}
        told = {"fleet": FLEET, "host": self.host, "port": self.port, "state_dir": self.state_dir, **files, **values}
        self.config_file = folder / "cloud.toml"
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in told.items()}
        lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
        lines += ["[storage]", f"database_url = {json.dumps(database_url)}"]
        self.config_file.write_text("\n".join(lines) + "\n")
        self.events: list[dict[str, Any]] = []
        self._up = threading.Event()
        self._cloud: subprocess.Popen[str] | None = None

    def order(self, devices: int, samples: int, run: str, seed: int = 1) -> Order:
        """Of simulated devices of this fleet."""
        return Order(
            directory=str(self._config.directory), state_dir=str(self.state_dir), fleet=FLEET, host=self.host,
            port=self.port, devices=devices, samples=samples, run=run, seed=seed,
        )  # fmt: skip

    def parts(self) -> dict[str, psutil.Process]:
        """The processes of the cloud, by what they are."""
        assert self._cloud is not None
        found = {"cloud": psutil.Process(self._cloud.pid)} if self.workers == 1 else {}
        for child in psutil.Process(self._cloud.pid).children(recursive=True):
            words = child.cmdline()
            if "--number" in words:
                found[worker_name("cloud", int(words[words.index("--number") + 1]))] = child
            elif "tend" in words:
                found["tender"] = child
        return found

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far: of the broker, all workers, and the tender."""
        assert self.broker.pid is not None
        spent = {"broker": _cpu_s(psutil.Process(self.broker.pid)), "workers": 0.0, "tender": 0.0}
        for name, process in self.parts().items():
            spent["tender" if name == "tender" else "workers"] += _cpu_s(process)
        return spent

    def rest(self) -> None:
        """Wait until the workers have acted on what was said so far, such as greetings: until they hardly work."""
        spent_s = _MOST_AT_REST_S
        while spent_s >= _MOST_AT_REST_S:
            before_s = self.cpu_s()["workers"]
            time.sleep(1.0)
            spent_s = self.cpu_s()["workers"] - before_s

    def kill(self, name: str) -> None:
        """SIGKILL a worker, the tender or the broker; that is started again here, the others by their supervisor."""
        if name == "broker":
            self.broker.kill()
            self.broker.start()
        else:
            os.kill(self.parts()[name].pid, signal.SIGKILL)

    def __enter__(self) -> LoadedCloud:
        self.broker.start()
        command = [sys.executable, "-m", "coda", "cloud", "serve", "--config", str(self.config_file), "--json"]
        command += ["--workers", str(self.workers), "--log-level", "error"]
        self._cloud = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        if not self._up.wait(_UP_TIMEOUT_S):
            raise RuntimeError("the cloud did not start; it said why above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._cloud is not None
        self._cloud.terminate()
        self._cloud.wait()
        self.broker.stop()

    def _read(self) -> None:
        assert self._cloud is not None
        assert self._cloud.stdout is not None
        with self._cloud.stdout:
            for line in self._cloud.stdout:
                event = json.loads(line)
                if event["event"] in ("serving", "started", "ended"):
                    self.events.append(event)
                # One process alone tells it with its model, several tell it once all workers serve.
                if event["event"] == "serving":
                    self._up.set()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
