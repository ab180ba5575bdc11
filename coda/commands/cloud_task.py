"""`coda cloud task`: what devices are asked to do, and rollouts of something newer over a part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from coda.cloud_orders import AsJson, Board, Config, Device, Percent, Tag

if TYPE_CHECKING:
    from cloud_broker.tasks.book import TaskBook
    from cloud_broker.tasks.layers import Layer

app = typer.Typer(help="Tasks of devices, and rollouts of newer ones by stages.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The rollout's name.")]


@app.command(name="list", epilog="Example:  coda cloud task list --config cloud.toml")
def list_(config: Config, as_json: AsJson = False) -> None:
    """List everyone's task and the rollouts over it, the newest first."""
    from cloud_broker.tasks.layers import EVERYONE, ROLLOUT
    from coda.cloud_orders import open_tasks
    from coda.output import print_json, results

    with open_tasks(config) as tasks:
        current, found = tasks.current(), [_row(tasks, layer) for layer in tasks.layers.all(ROLLOUT)]
        everyone = {"version": None if current is None else current.version, "devices": tasks.members(EVERYONE)}
    if as_json:
        print_json({"everyone": everyone, "rollouts": found})
        return
    results.print(f"{'everyone':16} version {everyone['version']}, {everyone['devices']} devices", markup=False)
    for row in found:
        results.print(f"{row['name']:16} {_state(row)}; {row['devices']} devices; {row['changes']}", markup=False)


@app.command(epilog="Example:  coda cloud task show calmer --config cloud.toml")
def show(name: Name, config: Config, as_json: AsJson = False) -> None:
    """Tell where a rollout stands, what its devices said, and why it stopped if it did."""
    from cloud_broker.tasks.layers import ROLLOUT
    from coda.cloud_orders import open_tasks
    from coda.output import print_json, results
    from coda.times import utc

    with open_tasks(config) as tasks:
        layer = tasks.layers.named(name, ROLLOUT)
        row, changes = _row(tasks, layer), tasks.layers.changes(layer)
    assert layer.plan is not None
    if as_json:
        print_json({**row, "plan": layer.plan.to_dict(), "history": changes})
        return
    shares = [f"{stage.percent:g}%" for stage in layer.plan.stages]
    results.print(f"{name} is {_state(row)}", markup=False)
    results.print(f"  changes      {row['changes']}\n  for          {row['cohort']}", markup=False)
    results.print(f"  stages       {', '.join(shares)} of these; {row['devices']} devices have it", markup=False)
    for whose, told in (("its devices", row["told"]), ("the rest", row["rest"])):
        said = f"{told['devices']} reported, {told['failures']} failed, {told['refusals']} of {told['judged']} refused"
        results.print(f"  {whose:12} {said}", markup=False)
    for change in changes:
        where = f"{change['state']} at {shares[change['stage']]}"
        results.print(f"  {utc(change['at_s'])}  {where:16} {change['reason']}".rstrip(), markup=False)


@app.command(
    "roll-out",
    epilog="Example:  coda cloud task roll-out calmer --recipe learning_rate=0.02 --tag shop=berlin "
    "--stages 1,10,50,100 --config cloud.toml",
)
def roll_out(
    name: Annotated[str, typer.Argument(help="What to call it; not used before.")],
    config: Config,
    recipe: Annotated[
        list[str] | None, typer.Option(help="A field of the recipe, like steps=200; may be said again.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="What a round must wait for, like least_battery=0.5; may be said again.")
    ] = None,
    model: Annotated[str, typer.Option(help="A published model: its version, or canary.")] = "",
    percent: Percent = 100.0,
    device: Device = None,
    board: Board = "*",
    tag: Tag = None,
    stages: Annotated[str, typer.Option(help="Shares of these devices, in percent.")] = "1,10,50,100",
    least_reports: Annotated[int, typer.Option(help="Devices that must report in a stage.", min=0)] = 20,
    least_hours: Annotated[float, typer.Option(help="Hours that a stage lasts at least.", min=0.0)] = 24.0,
    most_failed: Annotated[float, typer.Option(help="Share of devices whose round may fail.")] = 0.2,
    most_refused: Annotated[float, typer.Option(help="Share whose gate may refuse the personal model.")] = 0.9,
) -> None:
    """Lay a newer task over a part of the fleet, stage by stage; it stops by itself if rounds fail or gates refuse."""
    from cloud_broker.tasks import orders as task_orders
    from cloud_broker.tasks.staging import Bounds, Plan, Stage
    from coda.cloud_orders import cohort_of, open_tasks, overrides_of
    from coda.output import console

    steps = tuple(Stage(share, least_reports, 3600 * least_hours) for share in _shares(stages))
    plan = Plan(steps, Bounds(most_failed=most_failed, most_refused=most_refused))
    overrides = overrides_of(config, recipe or (), policy or (), model)
    with open_tasks(config) as tasks:
        layer = task_orders.roll_out(tasks, name, cohort_of(percent, device, board, tag), overrides, plan)
    console.print(f"{name} begins: {overrides}; first {steps[0].percent:g}% of {layer.cohort}", markup=False)


@app.command(epilog="Example:  coda cloud task pause calmer --config cloud.toml")
def pause(name: Name, config: Config) -> None:
    """Let no further stage of a rollout begin; what is wrong still stops it."""
    from cloud_broker.tasks import orders as task_orders
    from coda.cloud_orders import open_tasks
    from coda.output import console

    with open_tasks(config) as tasks:
        task_orders.pause(tasks, name)
    console.print(f"{name} is paused", markup=False)


@app.command(epilog="Example:  coda cloud task resume calmer --config cloud.toml")
def resume(name: Name, config: Config) -> None:
    """Let a paused rollout go on."""
    from cloud_broker.tasks import orders as task_orders
    from coda.cloud_orders import open_tasks
    from coda.output import console

    with open_tasks(config) as tasks:
        task_orders.resume(tasks, name)
    console.print(f"{name} goes on", markup=False)


@app.command(epilog="Example:  coda cloud task stop calmer --config cloud.toml")
def stop(name: Name, config: Config) -> None:
    """Stop a rollout for good: its devices get the task back that they would have without it."""
    from cloud_broker.tasks import orders as task_orders
    from cloud_broker.tasks.layers import ROLLOUT
    from coda.cloud_orders import open_tasks
    from coda.output import console

    with open_tasks(config) as tasks:
        task_orders.stop(tasks, name, ROLLOUT)
    console.print(f"{name} is stopped; its devices get their old task back", markup=False)


def _shares(stages: str) -> list[float]:
    from coda.errors import UsageError

    try:
        return [float(share) for share in stages.split(",")]
    except ValueError as error:
        raise UsageError(f"--stages {stages}: percents like 1,10,50,100") from error


def _row(tasks: TaskBook, layer: Layer) -> dict[str, Any]:
    from cloud_broker.tasks.layers import EVERYONE

    label, (arm,) = layer.label_of(layer.arms[0]), layer.arms
    return {
        "name": layer.name,
        "state": layer.progress.state,
        "reason": layer.progress.reason,
        "percent": layer.percent,
        "cohort": str(layer.cohort),
        "changes": str(arm.overrides),
        "devices": tasks.members(label),
        "told": vars(tasks.standings.told(label)),
        "rest": vars(tasks.standings.told(EVERYONE)),
    }


def _state(row: dict[str, Any]) -> str:
    why = f": {row['reason']}" if row["reason"] else ""
    return f"{row['state']} at {row['percent']:g}%{why}"
