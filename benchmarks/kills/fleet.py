"""A broker, a cloud and a device, each a process of its own that can be killed as a power cut would, and come back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from cloud_broker.membership.identity import Identity
from cloud_broker.models.registry import Registry
from cloud_broker.mosquitto.broker import Broker, write_broker_directory
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from tests.edge.samples import SCHEMA, samples
from tests.ports import free_port

FLEET = "kills"
CLOUD, OPERATOR = "cloud", "operator"
START_TIMEOUT_S = 120.0
_CONTRIBUTORS = 20


def fill_cloud(state_dir: Path) -> None:
    """Give a cloud a pool of two tastes and models trained on it."""
    from cloud_broker.models.publish import publish_models

    with closing(SamplePool(state_dir / "pool", SCHEMA)) as pool, closing(Registry(state_dir)) as registry:
        pool.add_many(Given(f"user-{n}", samples(50, taste=n % 2, seed=100 + n), "first") for n in range(_CONTRIBUTORS))
        publish_models(pool, registry, ModelOptions(epochs=1, embedding_dim=4, device_batch_size=16))


class Fleet:
    """One broker and one cloud over a folder, and devices' configurations; a context manager that ends both.

    Args:
        folder: Holds everything; ``cloud`` in it was filled before.
        recipe: What devices are asked to do.

    Attributes:
        operator: Of somebody who may leave tasks beside the cloud.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.cloud_dir = folder / "cloud"
        config = write_broker_directory(folder / "broker", FLEET, port=free_port(), cloud_names=(CLOUD, OPERATOR))
        self.broker = Broker(config)
        self._identities = config.authority()
        self.operator = self._identities.cloud_worker(OPERATOR)
        self._connection = {"fleet": FLEET, "host": config.connect_host, "port": config.port}
        self._recipe = recipe
        self.cloud_at(config.connect_host, config.port)
        self._cloud: subprocess.Popen[str] | None = None

    def device(self, name: str, **values: Any) -> Path:
        """A device's configuration."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        identity = _files(self._identities.device(name))
        return _write_toml(
            home / "device.toml",
            {"device": name, **self._connection, **identity, "state_dir": home / "state", "timeout_s": 90.0, **values},
        )

    def cloud_at(self, host: str, port: int) -> None:
        """Have the cloud reach the broker there, from its next start on."""
        worker = _files(self._identities.cloud_worker(CLOUD))
        values = {"fleet": FLEET, "host": host, "port": port, **worker, "state_dir": self.cloud_dir}
        self._cloud_config = _write_toml(self.folder / "cloud.toml", values, self._recipe)

    def start_cloud(self) -> None:
        """Start the cloud's service, and wait until it serves."""
        command = [sys.executable, "-m", "coda", "cloud", "serve", "--config", str(self._cloud_config), "--json"]
        log = (self.folder / "cloud.log").open("a")
        with log:
            self._cloud = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._cloud.stdout is not None
        for line in self._cloud.stdout:
            if json.loads(line)["event"] == "serving":
                break
        else:
            raise RuntimeError(f"the cloud did not start; see {self.folder / 'cloud.log'}")
        threading.Thread(target=self._drain, args=[self._cloud], daemon=True).start()

    def kill_cloud(self) -> None:
        """SIGKILL."""
        if self._cloud is not None:
            self._cloud.kill()
            self._cloud.wait()

    def restart(self, what: str) -> None:
        """Kill the broker or the cloud, and start it again."""
        if what == "broker":
            self.broker.kill()
            self.broker.start()
        else:
            self.kill_cloud()
            self.start_cloud()

    def __enter__(self) -> Fleet:
        self.broker.start()
        self.start_cloud()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill_cloud()
        self.broker.stop()

    @staticmethod
    def _drain(cloud: subprocess.Popen[str]) -> None:
        assert cloud.stdout is not None
        with cloud.stdout:
            for _ in cloud.stdout:
                pass


def _files(identity: Identity) -> dict[str, Path]:
    return {"ca_file": identity.ca_file, "cert_file": identity.cert_file, "key_file": identity.key_file}


def _write_toml(path: Path, values: dict[str, Any], recipe: dict[str, Any] | None = None) -> Path:
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    if recipe:
        lines += ["[recipe]", *(f"{name} = {_toml(value)}" for name, value in recipe.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)
