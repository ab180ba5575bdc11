"""`coda cloud devices` and `coda cloud tag`: who is in the fleet, what each holds and did, and what you call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coda.cloud_orders import AsJson, Config

if TYPE_CHECKING:
    from cloud_broker.tasks.round_history import ReportedRound

DEVICES_EPILOG = "Example:  coda cloud devices kiosk-1 --config cloud.toml"
TAG_EPILOG = "Example:  coda cloud tag kiosk-1 shop=berlin line=2 --remove old --config cloud.toml"


def devices(
    config: Config,
    name: Annotated[str | None, typer.Argument(help="One device, with its rounds; all of them by default.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of the device to show, the last first.", min=0)] = 20,
    as_json: AsJson = False,
) -> None:
    """Tell which devices there are, whether they are online, what they hold; of one, also its rounds and their cost."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.storage.ledger import Ledger
    from cloud_broker.tasks import device_view
    from cloud_broker.tasks.round_history import RoundHistory
    from coda.cloud_orders import open_tasks
    from coda.errors import UsageError
    from coda.output import print_json, results

    place = load_config(config).place
    with open_tasks(config) as tasks, closing(Ledger(place)) as ledger, closing(RoundHistory(place)) as history:
        found = device_view.devices(ledger, tasks)
        if name is not None and name not in found:
            raise UsageError(f"no device {name!r} was ever heard of")
        told = [] if name is None else history.of_device(name, rounds)
    if as_json:
        print_json(found if name is None else {**found[name], "name": name, "rounds": [vars(one) for one in told]})
    elif name is None:
        for device, row in found.items():
            results.print(_line(device, row), markup=False)
    else:
        _print_device(name, found[name], told)


def tag(
    name: Annotated[str, typer.Argument(help="The device's name; it need not have been seen yet.")],
    config: Config,
    tags: Annotated[list[str] | None, typer.Argument(help="key=value; a key has one value.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A key to take away; may be said again.")] = None,
) -> None:
    """Give a device tags, by which rollouts and experiments choose; prints what it has then."""
    from coda.cloud_orders import open_tasks
    from coda.output import results

    with open_tasks(config) as book:
        has = book.tags.change(name, tags or (), remove or ())
    results.print(f"{name}: {' '.join(has) or 'no tags'}", markup=False)


def _line(name: str, row: dict[str, Any]) -> str:
    from coda.times import utc

    there = {True: "online", False: "away", None: "-"}[row["online"]]
    return (
        f"{name:20} {there:7} {utc(row['seen_s']):19}  {_task(row):24} {row['board'] or '-':24} {' '.join(row['tags'])}"
    ).rstrip()


def _task(row: dict[str, Any]) -> str:
    if row["task"] is None:
        return "no task"
    where = "" if row["rollout"] is None else f" {row['rollout']}{'/' + row['arm'] if row['arm'] else ''}"
    return f"task {row['task']}{where}"


def _print_device(name: str, row: dict[str, Any], rounds: list[ReportedRound]) -> None:
    from coda.output import results
    from coda.times import utc

    results.print(_line(name, row), markup=False)
    held = ", ".join(sha256[:12] for sha256 in row["models"]) or "no models"
    results.print(f"  software {row['software'] or '-'}, runtime {row['runtime'] or '-'}, holds {held}", markup=False)
    for one in rounds:
        energy = "energy not measured" if one.energy_j is None else f"{one.energy_j:.2f} J"
        cost = f"{_said(one.elapsed_s, '.1f')} s  {_said(one.mqtt_bytes, ',.0f')} bytes  {energy}"
        results.print(
            f"  {utc(one.received_s)}  task {one.task_version:<4} {one.decision or '-':26} {cost}", markup=False
        )
        results.print(f"      {one.reason}", markup=False)
    if rounds and rounds[0].energy_j is None:
        results.print(f"  no energy of the last round: {rounds[0].energy_reason}", markup=False)


def _said(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
