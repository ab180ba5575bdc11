"""Folders of the demo's cloud and devices, filled with what each would have gathered before its first round."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_broker.membership.identity import Identity
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.models.rows import RowFile
from cloud_broker.mosquitto.broker import BrokerConfig
from cloud_broker.pool.sample_pool import Given, SamplePool
from coda.demo_data import DemoData
from coda.errors import FrontDoorError
from edge.learning.recommender import Personal
from edge.storage.store import Store
from evaluation.split import Device
from profiling.record import RoundRecord
from profiling.recording import RECORDINGS_FOLDER

FLEET = "demo"
_STATE = "state"


@dataclass(frozen=True)
class DeviceHome:
    """Where a device of the demo lives: its log, its configuration, its state."""

    folder: Path

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "device.toml"

    def read(self) -> DeviceState:
        """What it holds, after its process has ended."""
        with Store(self.folder / _STATE) as store:
            records, serving = store.rounds.records(), store.rounds.serving()
            model_file = store.blobs.path(serving.model_sha256) if serving else None
        return DeviceState(records[-1] if records else None, model_file, serving.personal if serving else None)


@dataclass(frozen=True)
class DeviceState:
    """What a device of the demo came to.

    Attributes:
        record: Its last round; None if it finished none.
        model_file: h0, as it holds it; None if it serves nothing.
        personal: What it serves over h0; None for h0 itself.
    """

    record: RoundRecord | None
    model_file: Path | None
    personal: Personal | None


def write_device(run_dir: Path, name: str, device: Device, broker: BrokerConfig) -> DeviceHome:
    """Give a device its certificate, its configuration and its user's samples. Raw samples go beside the report."""
    home = DeviceHome(run_dir / "devices" / name)
    home.folder.mkdir(parents=True)
    with Store(home.folder / _STATE) as store:
        store.samples.add(device.local)
    identity = broker.authority().device(name)
    kept = {"state_dir": _STATE, "recordings": str(run_dir / RECORDINGS_FOLDER)}
    values = {"device": name, "fleet": FLEET, **_connection(broker, identity), **kept}
    home.config.write_text(to_toml(values))
    return home


def write_cloud(folder: Path, data: DemoData, broker: BrokerConfig, values: Mapping[str, object]) -> Path:
    """Fill the cloud's pool, every user a contributor, and write its configuration.

    Args:
        folder: The cloud's.
        data: The pool's samples and their users.
        broker: Whose certificate for the cloud worker is used.
        values: Further values of the configuration.

    Returns:
        Path of the configuration.
    """
    folder.mkdir(parents=True)
    pool = SamplePool(folder / _STATE / "pool", data.split.schema)
    pool.add_many(_gifts(data))
    pool.close()
    identity = broker.authority().cloud_worker("cloud")
    config = folder / "cloud.toml"
    config.write_text(
        to_toml(
            {"fleet": FLEET, **_connection(broker, identity), "state_dir": _STATE, "devices": [*data.devices], **values}
        )
    )
    return config


def read_published(cloud_config: Path) -> tuple[PublishedModel, RowFile | None]:
    """What the cloud published, after its process has ended, and the rows that its recommender's file does not hold.

    Raises:
        FrontDoorError: If it published nothing.
    """
    registry = Registry(cloud_config.parent / _STATE)
    try:
        published = registry.latest()
        if published is None:
            raise FrontDoorError(f"the cloud published no model; see {cloud_config.parent / 'log'}")
        return published, registry.row_file(published)
    finally:
        registry.close()


def to_toml(values: Mapping[str, object]) -> str:
    """TOML of plain values, and of tables of them; the JSON form of text, numbers, booleans and lists is TOML's too."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    plain = (f"{name} = {json.dumps(value)}\n" for name, value in values.items() if name not in tables)
    return "".join(plain) + "".join(f"\n[{name}]\n{to_toml(table)}" for name, table in tables.items())


def _gifts(data: DemoData) -> Iterator[Given]:
    split, names = data.split, data.interactions.user_names
    for user in np.unique(split.pool_owner):
        batch = split.pool.take(split.pool_owner == user)
        yield Given(f"user-{names[user]}", batch, f"import-{names[user]}")


def _connection(broker: BrokerConfig, identity: Identity) -> dict[str, object]:
    return {
        "host": broker.connect_host,
        "port": broker.port,
        "ca_file": str(identity.ca_file),
        "cert_file": str(identity.cert_file),
        "key_file": str(identity.key_file),
    }
