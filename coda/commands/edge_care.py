"""`coda edge status | doctor | rounds | logs | forget | reset`: looking after a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coda.commands.edge_state import ConfigOption, JsonOption, open_database, read_config

if TYPE_CHECKING:
    from edge.config import EdgeConfig

_MARKS = {True: "ok  ", False: "BAD ", None: "?   "}
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Tell what the device serves, what it has learnt from, and what it waits for."""
    from coda.output import print_json, results
    from edge import overview

    with open_database(config) as (settings, database):
        found = overview.status(settings, database)
    if as_json:
        print_json(found)
        return
    for name, (needed, tell) in _STATUS.items():
        values, lost = [found[one] for one in needed], [one for one in needed if one in found["damaged"]]
        text = "; ".join(f"{one} cannot be read: {found['damaged'][one]}" for one in lost) or tell(*values)
        results.print(f"{name:11} {text}", markup=False)


def _last_round(found: dict[str, Any] | None) -> str:
    return "none" if found is None else f"{found['started']}: {found['decision']}, {found['reason']}"


def _unfinished(found: dict[str, Any] | None) -> str:
    return "none goes on" if found is None else f"{found['round_id'][:12]} in {found['phase']}"


def _written(bytes_per_day: int | None) -> str:
    return "not known yet" if bytes_per_day is None else f"{bytes_per_day / 1e6:.1f} MB a day to storage"


def _software(found: dict[str, Any]) -> str:
    release = found["release"] or f"{found['version']}, as flashed"
    update = found["update"]
    if update is None:
        return f"{release}; no release was offered yet"
    if update["stage"] is not None:
        return f"{release}; an update is in its {update['stage']}"
    return f"{release}; {update['target']}: {update['outcome']}, {update['reason']}"


def _policy(event: dict[str, Any] | None) -> str:
    if event is None:
        return "not asked yet"
    reasons = "; ".join(f"{name}: {why}" for name, why in event["reasons"].items())
    return f"{'may train' if event['act'] else 'must not train'} ({reasons or 'nothing was looked at'})"


# Each line of `status`: the values that it tells of, and how.
_STATUS: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "device": (("device", "fleet"), "{} of fleet {}".format),
    "model": (("model",), lambda model: model or "none yet: the first round brings it"),
    "disk": (("disk",), str),
    "samples": (
        ("samples", "new_samples", "waiting_events"),
        "{}, {} since the last round; {} events wait for a task".format,
    ),
    "last round": (("last_round",), _last_round),
    "round": (("unfinished_round",), _unfinished),
    "policy": (("policy",), _policy),
    "outbox": (("outbox_bytes",), "{} bytes wait for the cloud".format),
    "clock": (("clock",), lambda clock: clock or "nothing is known to be wrong with it"),
    "written": (("storage_written_bytes_per_day",), _written),
    "software": (("software",), _software),
}


def doctor(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Look for what most often keeps a device from working, and say what to do. Ends with 1 if anything is wrong."""
    from coda.output import print_json, results
    from edge.doctor import examine

    findings = examine(read_config(config))
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            results.print(f"{_MARKS[finding.ok]}{finding.check:12} {finding.detail}", markup=False)
            if finding.advice:
                results.print(f"{'':17}-> {finding.advice}", markup=False)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def rounds(
    config: ConfigOption,
    as_json: JsonOption = False,
    last: Annotated[int, typer.Option("--last", min=1, help="Only so many, the newest.")] = 20,
) -> None:
    """List the rounds that were done, the newest last; --json prints their whole records."""
    from coda.output import print_json, results
    from edge.overview import summary
    from edge.storage.round_store import RoundStore

    with open_database(config) as (_, database):
        records = [record.to_dict() for record in RoundStore(database).records()[-last:]]
    if as_json:
        print_json(records)
        return
    for record in records:
        row = summary(record)
        line = f"{row['started']}  task {row['task_version']:>3}  {row['elapsed_s']:>8.2f} s  {row['decision']}"
        results.print(f"{line}  {row['reason']}", markup=False)
    results.print(f"{len(records)} rounds", markup=False)


def logs(
    config: ConfigOption,
    as_json: JsonOption = False,
    last: Annotated[int, typer.Option("--last", min=1, help="Only so many, the newest.")] = 50,
    event: Annotated[str | None, typer.Option("--event", help="Only of this name, such as decision.")] = None,
) -> None:
    """Print what happened on the device lately, the newest last."""
    from coda.output import print_event, results
    from edge.overview import log_lines

    settings = read_config(config)
    found = [line for line in log_lines(settings.state_dir) if event is None or line.get("event") == event][-last:]
    for line in found:
        if as_json:
            print_event(line)
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line.get("unix_s", 0)))
        rest = "  ".join(f"{name}={value}" for name, value in line.items() if name not in ("unix_s", "event", "record"))
        results.print(f"{when}  {line.get('event')}  {rest}", markup=False)


def forget(config: ConfigOption, yes: YesOption = False) -> None:
    """Forget the device's user: samples, personal model, outbox; the cloud is asked to delete contributions."""
    from coda.output import print_json

    settings = read_config(config)
    _confirm(f"forget everything that {settings.device} learnt from its user? This cannot be undone", yes)
    print_json(_forget(settings))


def _forget(settings: EdgeConfig) -> dict[str, Any]:
    from coda.errors import UsageError
    from edge.client import Client
    from edge.errors import StoreBusyError
    from edge.forgetting import forget_user
    from edge.storage.store import Store

    try:
        with Store(settings.state_dir) as store:
            return dict(vars(forget_user(store)))
    except StoreBusyError as error:
        address = str(settings.api.socket) if settings.api.socket is not None else settings.api.port
        if not address:
            raise UsageError("the service runs and has no local API: stop it, then forget again") from error
        with Client(address) as client:
            return client.forget()


def reset(config: ConfigOption, yes: YesOption = False) -> None:
    """Delete all that the device remembers. Its certificate and configuration stay; the cloud is told nothing."""
    from coda.output import console
    from edge.overview import reset as reset_device

    settings = read_config(config)
    _confirm(f"delete everything in {settings.state_dir}? Reports that wait for the cloud are lost", yes)
    console.print(f"{reset_device(settings)} files deleted; the device starts from h0", markup=False)


def _confirm(question: str, yes: bool) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise typer.Abort


ALL = (status, doctor, rounds, logs, forget, reset)
