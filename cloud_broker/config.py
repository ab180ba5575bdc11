"""The cloud service's configuration, read from TOML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from cloud_broker.errors import ConfigError
from cloud_broker.matching.options import AGREEMENT, MatchOptions
from cloud_broker.membership.identity import Identity
from cloud_broker.options import ModelOptions
from cloud_broker.pool.options import PoolOptions
from cloud_broker.storage.place import Place, StorageOptions
from cloud_broker.workers.admission import PATIENCE_S
from protocol.errors import MalformedMessageError
from protocol.recipe import Recipe
from protocol.topics import check_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


MAX_WORKERS = 64
_TABLES = (ModelOptions, PoolOptions, MatchOptions, StorageOptions)


@dataclass(frozen=True, kw_only=True)
class CloudConfig:
    """Which fleet a cloud worker serves, through which broker, and what it gives the devices.

    Attributes:
        fleet: The fleet.
        host: The broker's name or address, as its certificate states it.
        port: The broker's port.
        ca_file: Certificate of the fleet's authority, PEM.
        cert_file: The worker's certificate, PEM.
        key_file: Its key, PEM, readable by its owner alone.
        state_dir: Folder that the cloud keeps: the pool (``pool/``), and what ``storage`` does not name.
        worker: The worker's name, the common name of its certificate.
        devices: Devices that get the task before they say hello; any other gets it when it does.
        threads: Messages that may wait for a disk, of which a worker acts on so many at a time; questions for samples
            are acted on by the thread that reads and writes, with 0 everything is.
        max_wait_s: What would wait longer before a worker is put off: the device is told when to come again.
        observe_port: Where health, readiness and metrics are told, on loopback alone; 0 for nowhere. Of several
            workers, the n-th tells its own at this port plus n.
        recipe: What devices are asked to do; a table ``[recipe]`` in the file.
        models: How models are trained and converted; a table ``[models]`` in the file.
        pool: What the pool keeps and what it quarantines; a table ``[pool]``.
        matching: How samples are chosen, and which must not leave; a table ``[matching]``.
        storage: What is kept elsewhere than in the state folder; a table ``[storage]``.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    fleet: str
    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path
    state_dir: Path
    worker: str = "cloud"
    devices: tuple[str, ...] = ()
    threads: int = 2
    max_wait_s: float = PATIENCE_S
    observe_port: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    models: ModelOptions = field(default_factory=ModelOptions)
    pool: PoolOptions = field(default_factory=PoolOptions)
    matching: MatchOptions = field(default_factory=MatchOptions)
    storage: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        try:
            for what, name in (("fleet", self.fleet), ("worker", self.worker), *(("device", d) for d in self.devices)):
                check_name(name, what)
        except MalformedMessageError as error:
            raise ConfigError(f"configuration: {error}") from error
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"configuration: port {self.port} is not in 1..65535")
        if not 0 < self.max_wait_s <= 3600:
            raise ConfigError(f"configuration: max_wait_s {self.max_wait_s} is not above 0 and up to 3600")
        if not 0 <= self.observe_port <= 65535 - MAX_WORKERS:
            raise ConfigError(f"configuration: observe_port {self.observe_port} is not in 0..{65535 - MAX_WORKERS}")
        if not 0 <= self.threads <= 64:
            raise ConfigError(f"configuration: threads {self.threads} is not in 0..64")

        if (self.matching.matcher == AGREEMENT) != (self.recipe.opinions > 0):
            raise ConfigError(
                f'configuration: [matching] matcher = "{AGREEMENT}" and [recipe] opinions above 0 go together: '
                "without opinions nobody agrees, and nobody should disclose them for nothing"
            )

    def of_worker(self, number: int) -> CloudConfig:
        """The configuration of one of several workers: the first is as configured, the n-th is named ``{worker}-{n}``.

        Their certificates and keys lie beside the first's, under their own names.

        Raises:
            ConfigError: If there is no such worker's certificate.
        """
        if number == 1:
            return self
        name = worker_name(self.worker, number)
        cert_file, key_file = (path.with_name(f"{name}{path.suffix}") for path in (self.cert_file, self.key_file))
        if missing := [str(path) for path in (cert_file, key_file) if not path.exists()]:
            raise ConfigError(
                f"worker {number} needs {' and '.join(missing)}: let the fleet's broker know it with `coda broker "
                f"init DIR --workers {number}` or `coda broker up --workers {number}`"
            )
        return replace(self, worker=name, cert_file=cert_file, key_file=key_file)

    @property
    def place(self) -> Place:
        """Where the cloud's state is."""
        return Place(self.state_dir, self.storage)

    @property
    def identity(self) -> Identity:
        """The worker's certificate, key and authority."""
        return Identity(self.worker, self.ca_file, self.cert_file, self.key_file)


def worker_name(first: str, number: int) -> str:
    """The name of one of several workers, from 1; ``first`` is the first's."""
    return first if number == 1 else f"{first}-{number}"


def load_config(path: Path) -> CloudConfig:
    """Read a configuration; paths in it are relative to its own folder.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or a value is missing, unknown, mistyped or out of bounds.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path}: not TOML ({error})") from error
    try:
        return CloudConfig(**_checked(CloudConfig, values, path.parent))
    except (TypeError, MalformedMessageError) as error:
        raise ConfigError(f"configuration {path}: {error}") from error


def _checked(cls: type, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``values`` as arguments of the dataclass ``cls``; TypeError says what does not fit."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - {f.name for f in fields(cls)})
    if unknown:
        raise TypeError(f"unknown values {unknown}")
    secret = {f.name for f in fields(cls) if not f.repr}
    for name in secret & set(values):
        if type(values[name]) is not hints[name]:
            raise TypeError(f"{name} must be {_form(hints[name])}")
    return {name: _converted(value, hints[name], name, folder) for name, value in values.items()}


def _converted(value: Any, wanted: Any, name: str, folder: Path) -> Any:
    if wanted is Recipe and isinstance(value, dict):
        return Recipe.from_dict(value)
    if wanted in _TABLES and isinstance(value, dict):
        return wanted(**_checked(wanted, value, folder))
    if wanted is Path and isinstance(value, str) and value:
        return folder / Path(value).expanduser()
    if wanted == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"{name} must be {_form(wanted)}, got {value!r}")
    return value


def _form(wanted: Any) -> str:
    forms = {
        Path: "a path in quotes",
        tuple[str, ...]: "a list of texts",
        **dict.fromkeys((Recipe, *_TABLES), "a table"),
    }
    return forms.get(wanted) or wanted.__name__
