"""`coda evaluate`: is h0 worth personalising, and does personalisation pay?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from converters.zoo.names import DEFAULT_RECOMMENDER, RECOMMENDERS

if TYPE_CHECKING:
    from evaluation.h0 import H0Result
    from evaluation.interactions import Interactions
    from evaluation.results import ArmsResult

app = typer.Typer(help="Does personalisation pay? The device's own code over many users.", no_args_is_help=True)

DataOption = Annotated[str, typer.Option("--data", help="ml-latest-small, ml-100k, synthetic, or a folder.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seeds every random choice.")]
ModelOption = Annotated[str, typer.Option("--model", help=f"h0's network: {', '.join(RECOMMENDERS)}.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example:  coda evaluate h0 --data ml-100k")
def h0(
    data: DataOption = "ml-latest-small",
    model: ModelOption = DEFAULT_RECOMMENDER,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Train the global model and judge it beside scorers that know nothing of the user.

    Twice: implicit labels on users that the cloud has not seen, and explicit labels on the last 20% of every user.
    """
    from coda.output import print_json, progress, results
    from evaluation.h0 import evaluate_h0
    from evaluation.samples import Labels
    from evaluation.split import Protocol

    _check_model(model)
    ratings = _load(data, seed)
    found = []
    with progress() as bars:
        for labels, protocol in ((Labels.IMPLICIT, Protocol.NEW), (Labels.EXPLICIT, Protocol.RETURNING)):
            bar = bars.add_task(f"training on {labels.value} labels", total=None)

            def on_epoch(event: dict[str, object], bar: object = bar) -> None:
                bars.update(bar, completed=event["epoch"], total=event["epochs"])  # type: ignore[arg-type]

            found.append(evaluate_h0(ratings, labels, protocol, model=model, seed=seed, on_event=on_epoch))
            bars.remove_task(bar)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    for one in found:
        results.print(_h0_lines(one))


def _h0_lines(found: H0Result) -> str:
    marked = " (SYNTHETIC)" if found.synthetic else ""
    baselines = ", ".join(f"{name} {auc:.4f}" for name, auc in found.baselines.items())
    mean = found.mean_user_auc
    return (
        f"{found.dataset}{marked}, {found.labels} labels, {found.protocol} users: "
        f"h0 ({found.model}) mean user AUC {mean.mean:.4f} [{mean.low:.4f}, {mean.high:.4f}] over {mean.users} users\n"
        f"  against {baselines}; h0 minus item mean {found.gain_over_item_mean}"
    )


@app.command(epilog="Example:  coda evaluate run --data ml-100k --local-events 20 --out runs/evaluation")
def run(
    data: DataOption = "ml-latest-small",
    labels: Annotated[str, typer.Option(help="implicit or explicit.")] = "implicit",
    model: ModelOption = DEFAULT_RECOMMENDER,
    protocol: Annotated[str, typer.Option(help="new: users unseen by the cloud; returning: all seen.")] = "new",
    local_events: Annotated[int, typer.Option(help="Latest events a device may learn from.", min=1)] = 20,
    fold: Annotated[int, typer.Option(help="Which third of the users are devices.", min=0, max=2)] = 0,
    devices: Annotated[int | None, typer.Option(help="At most so many devices.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one a CPU by default.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write evaluation.json and devices.jsonl here.")] = None,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Serve many users in several ways, at equal gradient steps, and say with intervals which is better."""
    from coda.errors import UsageError
    from coda.output import print_json, progress, results
    from evaluation.runner import evaluate_arms
    from evaluation.samples import Labels
    from evaluation.split import Protocol

    _check_model(model)
    try:
        kind, known = Labels(labels), Protocol(protocol)
    except ValueError as error:
        raise UsageError(f"{error}: --labels is implicit or explicit, --protocol new or returning") from error
    ratings = _load(data, seed)
    with progress() as bars:
        tasks: dict[str, object] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        found = evaluate_arms(
            ratings,
            kind,
            known,
            model=model,
            local_events=local_events,
            seed=seed,
            fold=fold,
            max_devices=devices,
            workers=workers,
            progress=on_progress,
        )
    if out is not None:
        found.write(out)
    if as_json:
        print_json(found.to_dict())
        return
    results.print("\n".join(_arm_lines(found)))
    if out is not None:
        results.print(f"written: {out}")


def _arm_lines(found: ArmsResult) -> list[str]:
    setting = found.setting
    marked = " (SYNTHETIC)" if setting.synthetic else ""
    lines = [
        f"{setting.dataset}{marked}, {setting.model}, {setting.labels} labels, {setting.protocol} users, "
        f"{setting.local_events} local events, seed {setting.seed}: {len(found.rows)} devices",
        f"{'arm':8}  mean user AUC               CoDA minus arm, paired        users up / same / down",
    ]
    for arm in found.arms:
        mean = found.summary(arm).mean_user_auc
        text = "n/a" if mean is None else f"{mean.mean:.4f} [{mean.low:.4f}, {mean.high:.4f}]"
        against = "" if arm == "coda" else _comparison(found, arm)
        lines.append(f"{arm:8}  {text:26}  {against}".rstrip())
    activated = sum(row.activated for row in found.rows)
    return [*lines, f"the gate let {activated} of {len(found.rows)} personal models serve"]


def _comparison(found: ArmsResult, arm: str) -> str:
    comparison = found.compare(arm)
    signs = comparison.users
    return f"{comparison.user_auc!s:28}  {signs.up} / {signs.same} / {signs.down}"


def _check_model(name: str) -> None:
    from coda.errors import UsageError

    if name not in RECOMMENDERS:
        raise UsageError(f"--model {name}: use one of {', '.join(RECOMMENDERS)}")


def _load(name: str, seed: int) -> Interactions:
    from coda.output import console, progress
    from evaluation.datasets import load_dataset

    with progress() as bars:
        bar = bars.add_task(f"data: {name}", total=None)
        ratings = load_dataset(
            name, seed=seed, progress=lambda done, total: bars.update(bar, completed=done, total=total)
        )
    if ratings.duplicates:
        console.print(f"{ratings.name}: left out {ratings.duplicates} repeated ratings")
    return ratings
