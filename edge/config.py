"""A device's configuration, read from TOML."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from edge.errors import ConfigError
from edge.feedback.labelling import EventRules
from edge.learning.runtime import RUNTIMES
from edge.scheduling.policy import Policy
from protocol.errors import MalformedMessageError
from protocol.topics import check_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

MOST_IDLE_S = 600.0
MOST_TRIAL_S = 24 * 3600.0
MOST_AWAY_S = 7 * 86400.0
_NAMES = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ApiConfig:
    """Where apps on the device reach it; see `edge.local_api.server`.

    Attributes:
        socket: Path of a Unix socket.
        port: On loopback, which every program on the device can reach; 0 takes any that is free.
    """

    socket: Path | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ConfigError(f"configuration: api.port {self.port} is not in 0..65535")

    @property
    def on(self) -> bool:
        """Whether there is an API at all."""
        return self.socket is not None or self.port is not None


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """How the device's software is kept up to date; see `edge.updates.updating`.

    Attributes:
        root: The root of trust, as `coda release init` makes it; None to take no releases.
        trial_s: How long a new release may take to prove itself.
        away_s: How long it may wait, of that alone, for a broker that nobody can reach.
    """

    root: Path | None = None
    trial_s: float = 600.0
    away_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.away_s <= MOST_AWAY_S:
            raise ConfigError(f"configuration: updates.away_s {self.away_s} is not in 0..{MOST_AWAY_S:g}")
        if not 1 <= self.trial_s <= MOST_TRIAL_S:
            raise ConfigError(f"configuration: updates.trial_s {self.trial_s} is not in 1..{MOST_TRIAL_S:g}")


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """Who a device is, where its broker is, and what it may do.

    Attributes:
        device: Its name in topics, the common name of its certificate.
        fleet: The fleet it belongs to.
        host: The broker's name or address, as its certificate states it.
        port: The broker's port.
        ca_file: Certificate of the fleet's authority, PEM.
        cert_file: The device's certificate, PEM.
        key_file: Its key, PEM, readable by its owner alone; may be the same file.
        enrolment_port: The port, on the same host, of the service that renews the certificate; None to leave that to
            the operator.
        state_dir: Folder that the device keeps; see `edge.storage.store`.
        runtime: ``ai_edge_litert`` or ``tflite_runtime``; None takes the first that is installed.
        threads: Threads of the model's kernels.
        contribute: Whether the device gives its samples to the pool. Off unless its owner says so.
        agreement: Whether what the device likes may be compared item by item with others: its queries then say which of
            its latest items it liked, where a task asks for that, and so may the samples that it contributes be used.
            This discloses items to the cloud, which a query alone does not. Off unless its owner says so.
        timeout_s: How long the cloud may take to answer, or to leave a task, before a round gives up for now.
        recordings: Folder where the newest round's raw samples are kept, as ``<device>.jsonl``; None keeps none.
        calibrations: Folder of this board's calibrations; see `hardware.calibration`.
        meter: Device file of the serial port with the power meter beside the board.
        meter_kind: One of `hardware.meters.autodetect.KINDS`; None to find out.
        meter_vdd_mv: Supply in millivolts, for a meter that measures no voltage.
        idle_s: How long to watch the board at idle when the service starts, so that a round's energy can be told net of
            it; 0 not to. The board must be at rest then.
        metered_link: Whether the link to the cloud is metered; None to find out.
        events: How an app's events become samples; a table of the configuration.
        policy: When the device may train; a table of the configuration.
        api: Where apps on the device reach it; a table of the configuration. Off where it says nothing.
        updates: How its software is kept up to date; a table of the configuration. Off where it says nothing.
        data_budget_bytes_per_month: Bytes both ways, TLS included, that a calendar month (UTC) may take; see
            `edge.tunnel.data_budget`. None for no limit.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    device: str
    fleet: str
    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path
    state_dir: Path
    enrolment_port: int | None = None
    runtime: str | None = None
    threads: int = 1
    contribute: bool = False
    agreement: bool = False
    timeout_s: float = 60.0
    recordings: Path | None = None
    calibrations: Path | None = None
    meter: Path | None = None
    meter_kind: str | None = None
    meter_vdd_mv: int | None = None
    idle_s: float = 0.0
    data_budget_bytes_per_month: int | None = None
    metered_link: bool | None = None
    events: EventRules = field(default_factory=EventRules)
    policy: Policy = field(default_factory=Policy)
    api: ApiConfig = field(default_factory=ApiConfig)
    updates: UpdateConfig = field(default_factory=UpdateConfig)

    def __post_init__(self) -> None:
        try:
            check_name(self.device, "device")
            check_name(self.fleet, "fleet")
        except MalformedMessageError as error:
            raise ConfigError(f"configuration: {error}") from error
        for name, port in (("port", self.port), ("enrolment_port", self.enrolment_port)):
            if port is not None and not 1 <= port <= 65535:
                raise ConfigError(f"configuration: {name} {port} is not in 1..65535")
        if self.runtime is not None and self.runtime not in RUNTIMES:
            raise ConfigError(f"configuration: runtime {self.runtime!r} is not one of {', '.join(RUNTIMES)}")
        if not 1 <= self.threads <= 256:
            raise ConfigError(f"configuration: threads {self.threads} is not in 1..256")
        if not self.timeout_s > 0:
            raise ConfigError(f"configuration: timeout_s {self.timeout_s} must be above 0")
        if not 0 <= self.idle_s <= MOST_IDLE_S:
            raise ConfigError(f"configuration: idle_s {self.idle_s} is not in 0..{MOST_IDLE_S:g}")
        if self.data_budget_bytes_per_month is not None and self.data_budget_bytes_per_month < 1:
            raise ConfigError(
                f"configuration: data_budget_bytes_per_month {self.data_budget_bytes_per_month} must be at least 1"
            )
        if self.meter_kind is not None:
            _check_meter_kind(self.meter_kind)


def _check_meter_kind(kind: str) -> None:
    from hardware.meters.autodetect import KINDS  # noqa: PLC0415 (a device without a meter need not load them)

    if kind not in KINDS:
        raise ConfigError(f"configuration: meter_kind {kind!r} is not one of {', '.join(KINDS)}")


def load_config(path: Path, named: str | None = None) -> EdgeConfig:
    """Read a configuration; paths in it are relative to its own folder.

    Args:
        path: The file.
        named: What faults call it, if it was made from something that its reader knows better.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or a value is missing, unknown, mistyped or out of bounds.
    """
    named = named or f"configuration {path}"
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{named}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named}: not TOML ({error})") from error
    try:
        return EdgeConfig(**_Reader(path.parent, named).checked(EdgeConfig, values))
    except ConfigError as error:  # who checks bounds does not know where the value stands
        raise ConfigError(re.sub(r"\Aconfiguration: ", lambda _: f"{named}: ", str(error))) from error


@dataclass(frozen=True)
class _Reader:
    """Turns a file's values into those of a table.

    Attributes:
        folder: What paths are relative to.
        named: What faults call the file.
    """

    folder: Path
    named: str

    def checked(self, table: type, values: Mapping[str, Any], within: str = "") -> dict[str, Any]:
        """A table's values, each of the type that its attribute has."""
        known = {f.name: f for f in fields(table)}
        unknown = sorted(within + name for name in set(values) - set(known))
        needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
        missing = sorted(within + name for name in needed - set(values))
        if unknown or missing:
            raise ConfigError(f"{self.named}: unknown values {unknown}, missing values {missing}")
        hints = get_type_hints(table)
        return {name: self._convert(value, hints[name], within + name) for name, value in values.items()}

    def _convert(self, value: object, hint: Any, name: str) -> object:
        if hint == _NAMES and isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        wanted: type = next((arm for arm in get_args(hint) if arm is not type(None)), hint)
        if is_dataclass(wanted) and isinstance(value, dict):
            return wanted(**self.checked(wanted, value, f"{name}."))
        if wanted is Path and isinstance(value, str) and value:
            return self.folder / Path(value).expanduser()
        if wanted is float and type(value) is int:
            return float(value)
        if hint == _NAMES or type(value) is not wanted:
            raise ConfigError(f"{self.named}: {name} must be {_form(hint, wanted)}, got {value!r}")
        return value


def _form(hint: Any, wanted: type) -> str:
    if hint == _NAMES:
        return "a list of names"
    return "a table" if is_dataclass(wanted) else "a path in quotes" if wanted is Path else wanted.__name__
