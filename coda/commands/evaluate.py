"""`coda evaluate`: does personalisation pay for these users, and is h0 worth personalising?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from coda.values import SeveralValues, numbers, words
from converters.zoo.names import DEFAULT_RECOMMENDER, RECOMMENDERS

if TYPE_CHECKING:
    from evaluation.plan import Plan


class StudyOrCommand(TyperGroup):
    """What does not begin with a sub-command's name is a call of `DEFAULT`."""

    DEFAULT = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name in front where options come without one."""
        bare = bool(args) and args[0].startswith("--") and args[0] != "--help"
        return super().parse_args(ctx, [self.DEFAULT, *args] if bare else args)


app = typer.Typer(
    cls=StudyOrCommand, help="Does personalisation pay? The device's own code over many users.", no_args_is_help=True
)

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="ml-latest-small, ml-100k, ml-1m, ml-20m, synthetic, a folder in the layout of one of these, or a CSV, "
        "JSON-lines (such as Amazon's 5-core reviews) or Parquet file.",
    ),
]
ModelOption = Annotated[str, typer.Option("--model", help=f"h0's network: {', '.join(RECOMMENDERS)}.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FILE = "Columns of a file"
_STUDY = "What is tried"
_RUN = "How it runs"

_EXAMPLES = """Example:  coda evaluate run --data ml-100k --local-events 5 20 --seeds 1 2 3 --folds all --out runs/study

A file:  coda evaluate --data clicks.csv --user uid --item sku --time ts --features brand price=dense

Ratings, by stars:  coda evaluate --data r.parquet --user u --item i --rating stars --threshold 4 --labels explicit"""


@app.command(epilog=_EXAMPLES, cls=SeveralValues)
def run(
    data: DataOption = "ml-latest-small",
    user: Annotated[str | None, typer.Option(help="Who.", rich_help_panel=_FILE)] = None,
    item: Annotated[str | None, typer.Option(help="What.", rich_help_panel=_FILE)] = None,
    label: Annotated[str | None, typer.Option(help="1 or 0.", rich_help_panel=_FILE)] = None,
    rating: Annotated[str | None, typer.Option(help="In place of a label.", rich_help_panel=_FILE)] = None,
    threshold: Annotated[
        float | None, typer.Option(help="A rating is liked from here on; by default every one.", rich_help_panel=_FILE)
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Seconds, ms, us or ns since 1970, or ISO 8601.", rich_help_panel=_FILE)
    ] = None,
    features: Annotated[
        str, typer.Option(help="NAME or NAME=categorical|multi|dense, any number.", rich_help_panel=_FILE)
    ] = "",
    separator: Annotated[str, typer.Option(help="Between the values of a multi cell.", rich_help_panel=_FILE)] = "|",
    labels: Annotated[
        str | None,
        typer.Option(
            help="implicit: liked against sampled negatives; explicit: liked or not. Explicit where --label is given, "
            "else implicit.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    implicit: Annotated[bool, typer.Option("--implicit", help="--labels implicit.", rich_help_panel=_STUDY)] = False,
    negatives: Annotated[int, typer.Option(help="Of each positive.", min=1, max=100, rich_help_panel=_STUDY)] = 4,
    negatives_by: Annotated[
        str, typer.Option(help="popularity, so that it alone tells nothing, or uniform.", rich_help_panel=_STUDY)
    ] = "popularity",
    protocol: Annotated[
        str,
        typer.Option(
            help="new: 35% of users unseen by the cloud; returning: all seen; mpda: one moment divides all events.",
            rich_help_panel=_STUDY,
        ),
    ] = "new",
    split_time: Annotated[
        int | None, typer.Option(help="The moment of mpda, unix seconds; 80% of events.", rich_help_panel=_STUDY)
    ] = None,
    local_events: Annotated[
        str,
        typer.Option(
            help="Latest events that a device learns from; several make several tables.", rich_help_panel=_STUDY
        ),
    ] = "20",
    seeds: Annotated[str, typer.Option(help="Each makes its own split and h0.", rich_help_panel=_STUDY)] = "1",
    folds: Annotated[
        str, typer.Option(help="Which thirds of the users are devices: 0 1 2, or all.", rich_help_panel=_STUDY)
    ] = "0",
    arms: Annotated[str, typer.Option(help="Names, or all; cloud and coda always run.", rich_help_panel=_STUDY)] = "",
    model: ModelOption = DEFAULT_RECOMMENDER,
    part: Annotated[
        str, typer.Option(help="test, or validation while anything is still being chosen.", rich_help_panel=_STUDY)
    ] = "test",
    users: Annotated[
        int | None,
        typer.Option(
            help="So many whole users at random; all, but at most 3 million rows.", min=2, rich_help_panel=_RUN
        ),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="At most so many a cell.", min=1, rich_help_panel=_RUN)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a CPU.", min=1, rich_help_panel=_RUN)] = None,
    cache: Annotated[bool, typer.Option(help="Keep h0 for the next study.", rich_help_panel=_RUN)] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Rows, evaluation.json and evaluation.html. A stopped study goes on.", rich_help_panel=_RUN),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve many users in several ways at equal gradient steps, and say with intervals what personalisation gains.

    Ends with the answer in plain words: the gain, its interval, and the share of users who are ranked worse.
    """
    from coda.evaluating import check_model, load, run_and_tell
    from evaluation.tables import TableOptions

    check_model(model)
    table = TableOptions(
        user=user,
        item=item,
        label=label,
        rating=rating,
        time=time,
        features=tuple(words(features)),
        threshold=threshold,
        separator=separator,
    )
    plan = _plan(
        labels="implicit" if implicit else labels or ("explicit" if label else "implicit"),
        protocol=protocol,
        part=part,
        negatives_by=negatives_by,
        local_events=numbers(local_events, "--local-events"),
        seeds=numbers(seeds, "--seeds"),
        folds=(0, 1, 2) if folds == "all" else numbers(folds, "--folds"),
        arms=words(arms),
        model=model,
        max_devices=devices,
        negatives=negatives,
        split_time_s=split_time,
    )
    run_and_tell(load(data, plan, table, users), plan, out, workers=workers, keep_h0=cache, as_json=as_json)


def _plan(*, labels: str, protocol: str, part: str, negatives_by: str, arms: list[str], **others: Any) -> Plan:
    from coda.errors import UsageError
    from evaluation.plan import ALL_ARMS, DEFAULT_ARMS, Plan
    from evaluation.samples import Labels
    from evaluation.split import Protocol

    for option, value, known in (
        ("--labels", labels, [one.value for one in Labels]),
        ("--protocol", protocol, [one.value for one in Protocol]),
        ("--part", part, ["test", "validation"]),
        ("--negatives-by", negatives_by, ["popularity", "uniform"]),
    ):
        if value not in known:
            raise UsageError(f"{option} {value}: use {' or '.join(known)}")
    chosen = ALL_ARMS if arms == ["all"] else tuple(arms) or DEFAULT_ARMS
    return Plan(
        labels=Labels(labels),
        protocol=Protocol(protocol),
        part=part,  # type: ignore[arg-type]
        negatives_by=negatives_by,  # type: ignore[arg-type]
        arms=chosen,
        **others,
    )


@app.command(epilog="Example:  coda evaluate arms")
def arms(as_json: JsonOption = False) -> None:
    """List the ways to serve a device that can be compared."""
    from coda.output import print_json, results
    from evaluation.arms import ARMS

    if as_json:
        print_json({arm.name: arm.description for arm in ARMS.values()})
        return
    width = max(map(len, ARMS))
    results.print("\n".join(f"{arm.name:{width}}  {arm.description}" for arm in ARMS.values()))


@app.command(epilog="Example:  coda evaluate controls --only positive poisoned-20", cls=SeveralValues)
def controls(
    only: Annotated[str, typer.Option(help="Names of controls; by default all.")] = "",
    users: Annotated[int | None, typer.Option(help="Generated users of each.", min=40)] = None,
    devices: Annotated[int | None, typer.Option(help="At most so many devices of each.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seeds every random choice.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one per CPU.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Try the method in worlds whose truth is known, and say whether it does there what it promises.

    Ends with exit code 1 if a promise is broken.
    """
    from coda.controls import run_and_tell

    run_and_tell(words(only), users=users, devices=devices, seed=seed, workers=workers, as_json=as_json)


@app.command(epilog="Example:  coda evaluate h0 --data ml-100k")
def h0(
    data: DataOption = "ml-latest-small",
    model: ModelOption = DEFAULT_RECOMMENDER,
    seed: Annotated[int, typer.Option("--seed", help="Seeds every random choice.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train the global model and judge it beside scorers that know nothing of the user.

    Twice: implicit labels on users that the cloud has not seen, and explicit labels on the last 20% of every user.
    """
    from coda.h0 import run_and_tell

    run_and_tell(data, model, seed, as_json=as_json)
