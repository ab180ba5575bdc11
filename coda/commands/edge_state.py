"""`coda edge outbox` and `coda edge data`: looking into a device's state, beside a running service if need be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edge.config import EdgeConfig
    from edge.storage.database import Database
    from edge.tunnel.outbox import Outbox

outbox = typer.Typer(help="Messages on their way to the cloud.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", help="The device's configuration, TOML.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@outbox.command("list", epilog="Example:  coda edge outbox list --config device.toml")
def list_letters(config: ConfigOption, as_json: JsonOption = False) -> None:
    """List what waits for the cloud, oldest first, and what was lost to the outbox's bound."""
    from coda.output import print_json, results

    with _outbox(config) as (_, box):
        entries, losses = box.entries(), box.losses()
        used, limit = box.size_bytes, box.limit_bytes
    if as_json:
        plain = {"letters": [vars(entry) for entry in entries], "losses": [vars(loss) for loss in losses]}
        print_json({**plain, "size_bytes": used, "limit_bytes": limit})
        return
    for entry in entries:
        age = _age(time.time() - entry.queued_unix_s)
        results.print(f"{entry.message_id[:12]}  {entry.kind:12}  {entry.size_bytes:>9} bytes  {age}", markup=False)
    results.print(f"{len(entries)} waiting: {used} of at most {limit} bytes", markup=False)
    for loss in losses:
        what = "gave way to newer ones" if loss.why == "gave-way" else "found no room, and were refused"
        results.print(f"{loss.messages} of kind {loss.kind} ({loss.size_bytes} bytes) {what}", markup=False)


@outbox.command(epilog="Example:  coda edge outbox show 3f2a --config device.toml")
def show(
    message: Annotated[str, typer.Argument(metavar="ID", help="A message's id, or its first characters.")],
    config: ConfigOption,
) -> None:
    """Print what a waiting message says, as JSON; of samples, how many bytes they are."""
    from coda.errors import UsageError
    from coda.output import print_json
    from protocol.envelope import decode

    with _outbox(config) as (_, box):
        letter = box.letter(message)
    if letter is None:
        raise UsageError(f"no one message begins with {message!r}: see `coda edge outbox list`")
    said = decode("up", letter.kind, letter.payload).message
    print_json({"message_id": letter.message_id, "kind": letter.kind, "says": _printable(vars(said))})


@outbox.command(epilog="Example:  coda edge outbox flush --config device.toml")
def flush(
    config: ConfigOption,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait.", min=0.0)] = 60.0,
) -> None:
    """Have the cloud take what waits: deliver it, or wait until the running service has."""
    from coda.output import console
    from edge.tunnel.flush import flush_outbox

    delivered = flush_outbox(read_config(config), timeout_s)
    console.print(f"{delivered} delivered, nothing waits", markup=False)


def data(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Tell what used the device's data, by day and purpose, and what is left of the month's budget."""
    from coda.data_table import print_days
    from edge.tunnel.data_budget import DataBudget
    from profiling.data_use import DataUse

    with open_database(config) as (settings, database):
        use = DataUse(database)
        days, used = use.by_day(), use.charged_this_month()
        left = DataBudget(use, settings.data_budget_bytes_per_month).left_bytes
    budget = "no budget" if left is None else f"{left} of {settings.data_budget_bytes_per_month} left"
    print_days(
        days,
        as_json=as_json,
        month={"used_bytes": used, "budget_bytes": settings.data_budget_bytes_per_month, "left_bytes": left},
        ending=f"this month: {used} bytes both ways, TLS included; {budget}",
    )


def read_config(path: Path) -> EdgeConfig:
    """A device's configuration."""
    from edge.config import load_config

    return load_config(path)


@contextmanager
def open_database(path: Path) -> Iterator[tuple[EdgeConfig, Database]]:
    """A device's configuration and its database, to read only.

    Raises:
        UsageError: If it has not run yet, or is another user's.
    """
    from coda.errors import UsageError
    from edge.storage.database import Database

    config = read_config(path)
    file = config.state_dir / "device.db"
    try:
        if not file.exists():
            raise UsageError(f"nothing in {config.state_dir} yet: this device has not run")
    except PermissionError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; run this as root or as the service's user") from error
    with Database(file, read_only=True) as database:
        yield config, database


@contextmanager
def _outbox(path: Path) -> Iterator[tuple[EdgeConfig, Outbox]]:
    from edge.tunnel.outbox import Outbox

    with open_database(path) as (config, database):
        yield config, Outbox(database)


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {name: _printable(item) for name, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
