"""`coda cloud experiment`: arms of devices side by side, and what they differ in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coda.cloud_orders import AsJson, Board, Config, Device, Percent, Tag

if TYPE_CHECKING:
    from cloud_broker.tasks.arms import Arm
    from cloud_broker.tasks.experiments import ExperimentResult
    from cloud_broker.tasks.layers import Layer

app = typer.Typer(help="Compare recipes, policies or models on parts of the fleet.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The experiment's name.")]


@app.command(
    epilog="Example:  coda cloud experiment start pull --arm near:recipe.proximal=0.01 "
    "--arm far:recipe.proximal=0.1,weight=2 --percent 20 --config cloud.toml"
)
def start(
    name: Annotated[str, typer.Argument(help="What to call it; not used before.")],
    config: Config,
    arm: Annotated[
        list[str],
        typer.Option(help="NAME:recipe.FIELD=VALUE,policy.FIELD=VALUE,model=VERSION,weight=NUMBER; once an arm."),
    ],
    control_weight: Annotated[float, typer.Option(help="Of the arm that has everyone's task.")] = 1.0,
    percent: Percent = 100.0,
    device: Device = None,
    board: Board = "*",
    tag: Tag = None,
    least_devices: Annotated[int, typer.Option(help="Of each arm that must report first.", min=1)] = 30,
) -> None:
    """Divide a part of the fleet into arms by a stable hash; each device keeps its arm until you stop it."""
    from cloud_broker.tasks import orders as task_orders
    from cloud_broker.tasks.arms import CONTROL, Arm
    from coda.cloud_orders import cohort_of, open_tasks
    from coda.output import console

    arms = (Arm(CONTROL, weight=control_weight), *(_arm(config, text) for text in arm))
    cohort = cohort_of(percent, device, board, tag)
    with open_tasks(config) as tasks:
        task_orders.start_experiment(tasks, name, cohort, arms, least_devices=least_devices)
    console.print(f"{name} begins on {cohort}: {', '.join(one.name for one in arms)}", markup=False)


@app.command(name="list", epilog="Example:  coda cloud experiment list --config cloud.toml")
def list_(config: Config, as_json: AsJson = False) -> None:
    """List experiments, the newest first."""
    from cloud_broker.tasks.layers import EXPERIMENT
    from coda.cloud_orders import open_tasks
    from coda.output import print_json, results

    with open_tasks(config) as tasks:
        found = [_row(layer) for layer in tasks.layers.all(EXPERIMENT)]
    if as_json:
        print_json(found)
        return
    for row in found:
        results.print(f"{row['name']:16} {row['state']:8} {row['cohort']}: {', '.join(row['arms'])}", markup=False)


@app.command(epilog="Example:  coda cloud experiment show pull --config cloud.toml")
def show(name: Name, config: Config, as_json: AsJson = False) -> None:
    """Compare the arms with the control: means over devices, differences with intervals, and what they say."""
    from contextlib import closing
    from dataclasses import asdict

    from cloud_broker.config import load_config
    from cloud_broker.tasks import orders as task_orders
    from cloud_broker.tasks.layers import EXPERIMENT
    from cloud_broker.tasks.round_history import RoundHistory
    from coda.cloud_orders import open_tasks
    from coda.output import print_json

    with open_tasks(config) as tasks, closing(RoundHistory(load_config(config).place)) as history:
        layer = tasks.layers.named(name, EXPERIMENT)
        found = task_orders.results_of(tasks, history, name)
    if as_json:
        print_json({**_row(layer), **asdict(found)})
        return
    _print(layer, found)


@app.command(epilog="Example:  coda cloud experiment stop pull --config cloud.toml")
def stop(name: Name, config: Config) -> None:
    """End an experiment: its devices get everyone's task; what was found can still be shown."""
    from cloud_broker.tasks import orders as task_orders
    from cloud_broker.tasks.layers import EXPERIMENT
    from coda.cloud_orders import open_tasks
    from coda.output import console

    with open_tasks(config) as tasks:
        task_orders.stop(tasks, name, EXPERIMENT)
    console.print(f"{name} is stopped", markup=False)


def _arm(config: Path, text: str) -> Arm:
    from cloud_broker.tasks.arms import Arm
    from coda.cloud_orders import overrides_of
    from coda.errors import UsageError

    name, _, settings = text.partition(":")
    parts: dict[str, list[str]] = {"recipe": [], "policy": [], "model": [], "weight": []}
    for setting in settings.split(","):
        what, _, value = setting.partition("." if setting.startswith(("recipe.", "policy.")) else "=")
        if what not in parts or not value:
            raise UsageError(f"--arm {text}: {setting!r} is none of recipe.FIELD=, policy.FIELD=, model= and weight=")
        parts[what].append(value)
    try:
        weight = float(parts["weight"][-1]) if parts["weight"] else 1.0
    except ValueError as error:
        raise UsageError(f"--arm {text}: weight is a number") from error
    model = parts["model"][-1] if parts["model"] else ""
    return Arm(name, overrides_of(config, parts["recipe"], parts["policy"], model), weight)


def _row(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "state": layer.progress.state,
        "cohort": str(layer.cohort),
        "arms": {arm.name: str(arm.overrides) for arm in layer.arms},
    }


def _print(layer: Layer, found: ExperimentResult) -> None:
    from rich.table import Table

    from cloud_broker.tasks.experiments import MEASURES
    from coda.output import results

    results.print(f"{layer.name} is {layer.progress.state}, on {layer.cohort}", markup=False)
    for arm in found.arms:
        said = f"  {arm.name:12} {arm.assigned} devices, {arm.reported} reported; changes {arm.changes}"
        results.print(said, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("measure", "arm", "mean", "devices", "minus control", "interval"):
        table.add_column(heading, justify="left" if heading in ("measure", "arm") else "right", no_wrap=True)
    for measure in MEASURES:
        for arm in found.arms:
            mean, gap = arm.means[measure.name], arm.differences.get(measure.name)
            interval = "" if gap is None else f"{gap.low:+.4g} to {gap.high:+.4g}"
            cells = ["n/a" if mean.mean is None else f"{mean.mean:.4g}", str(mean.devices)]
            table.add_row(measure.name, arm.name, *cells, "" if gap is None else f"{gap.difference:+.4g}", interval)
    results.print(table)
    results.print(found.verdict, markup=False)
