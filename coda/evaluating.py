"""`coda evaluate run`, once its options are read: load, run, tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coda.errors import UsageError
from coda.output import console, print_json, progress, results
from converters.zoo.names import RECOMMENDERS
from evaluation.datasets import PUBLISHED, cache_folder, load_dataset
from evaluation.interactions import Interactions, some_users
from evaluation.plan import Plan
from evaluation.samples import Labels
from evaluation.split import Protocol
from evaluation.tables import TableOptions

if TYPE_CHECKING:
    from evaluation.findings import Group
    from evaluation.study import Study

# Samples of more than this do not fit in the memory of a usual machine; whole users are then drawn.
MOST_RATINGS = 3_000_000


def check_model(model: str) -> None:
    """Refuse a model that the zoo does not have."""
    if model not in RECOMMENDERS:
        raise UsageError(f"--model {model}: use one of {', '.join(RECOMMENDERS)}")


def load_ratings(name: str, seed: int, columns: TableOptions | None = None) -> Interactions:
    """The dataset of that name, with what was left out told on standard error."""
    with progress() as bars:
        bar = bars.add_task(f"data: {name}", total=None)
        ratings = load_dataset(
            name,
            table=columns,
            seed=seed,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    for line in ratings.reading.lines():
        console.print(f"{ratings.name}: {line}", markup=False)
    if ratings.duplicates:
        console.print(f"{ratings.name}: left out {ratings.duplicates:,} repeated ratings of the same user and item")
    return ratings


def load(name: str, plan: Plan, columns: TableOptions, users: int | None) -> Interactions:
    """The data of a study: whole users where it is too much.

    Raises:
        UsageError: If explicit labels have nothing to come from.
    """
    ratings = load_ratings(name, plan.seeds[0], columns)
    if plan.labels is Labels.EXPLICIT and (ratings.liked.all() or not ratings.liked.any()):
        which = "positive" if ratings.liked.all() else "negative"
        raise UsageError(f"{name}: every row is a {which}; give --threshold or --label, or use --labels implicit")
    wanted = users or (None if len(ratings) <= MOST_RATINGS else ratings.users * MOST_RATINGS // len(ratings))
    if wanted is not None and wanted < ratings.users:
        before = ratings.users
        ratings = some_users(ratings, max(2, wanted))
        console.print(f"{ratings.name}: {ratings.users:,} of {before:,} users, drawn at random; --users N takes others")
    return ratings


def run_and_tell(
    ratings: Interactions, plan: Plan, out: Path | None, *, workers: int | None, keep_h0: bool, as_json: bool
) -> None:
    """Run the study, write its files, print the tables and the answer."""
    # With TensorFlow only now: what is wrong with the data has been said before.
    from evaluation.findings import groups_of
    from evaluation.outcome import to_dict, write_outcome
    from evaluation.study import run_study

    if plan.protocol is Protocol.MPDA and plan.split_time_s is None and ratings.name in PUBLISHED:
        plan = replace(plan, split_time_s=PUBLISHED[ratings.name].mpda_split_s)
    with progress() as bars:
        tasks: dict[str, Any] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        kept = cache_folder().parent / "worlds" if keep_h0 else None
        study = run_study(ratings, plan, out, workers=workers, keep_worlds_in=kept, progress=on_progress)
    groups = groups_of(study)
    written = write_outcome(study, groups, out) if out is not None else ()
    if as_json:
        print_json(to_dict(study, groups))
        return
    for line in _lines(study, groups):
        results.print(line, markup=False)
    for path in written:
        results.print(f"written: {path}", markup=False)


def _lines(study: Study, groups: Sequence[Group]) -> list[str]:
    from evaluation.words import describe, table, verdict

    data, plan = study.data, study.plan
    marked = " (SYNTHETIC)" if data.synthetic else ""
    lines = [
        f"{data.name}{marked}: {data.users:,} users, {data.items:,} items, {len(data):,} ratings; model {plan.model}, "
        f"{plan.part} samples"
    ]
    for group in groups:
        lines += ["", describe(group, plan), *table(group), _counts(group)]
    return [*lines, "", *(sentence for group in groups for sentence in verdict(group, plan))]


def _counts(group: Group) -> str:
    return (
        f"{group.rows:,} device runs, {group.activated:.0%} serve a personal model; users without an AUC (one label in "
        f"the test) {group.one_class_users:,}, without a local sample {group.empty_users:,}, with nothing to be tested "
        f"by {group.skipped_users:.0f}"
    )
