"""`coda cloud pool`: what the pool holds, what it holds back, and tables in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cloud_broker.pool.sample_pool import SamplePool
    from protocol.schema import FeatureSchema

app = typer.Typer(help="The pool of samples; the cloud may serve meanwhile.", no_args_is_help=True)

Config = Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Table = Annotated[Path, typer.Argument(help="A table: .csv, .parquet or .pq.")]


@app.command(name="list", epilog="Example:  coda cloud pool list --config cloud.toml")
def list_(config: Config, as_json: AsJson = False) -> None:
    """Tell how much the pool holds, and how much it holds back."""
    from coda.output import print_json, results

    with _pool(config) as pool:
        contributors, samples = pool.live()
        held = pool.held()
        values = {
            "samples": samples,
            "contributors": contributors,
            "schema": pool.schema.digest,
            **({"features": pool.schema.to_dict()["features"]} if as_json else {}),
            "quarantined_contributions": len(held),
            "quarantined_samples": sum(one.samples for one in held),
        }
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        results.print(f"{name:26} {value:,}" if isinstance(value, int) else f"{name:26} {value}", markup=False)


@app.command(
    epilog="Example:  coda cloud pool quarantine --config cloud.toml    "
    "coda cloud pool quarantine --config cloud.toml --release 17"
)
def quarantine(
    config: Config,
    release: Annotated[list[int] | None, typer.Option(help="Take this contribution into the pool.")] = None,
    drop: Annotated[list[int] | None, typer.Option(help="Delete this contribution.")] = None,
    as_json: AsJson = False,
) -> None:
    """List contributions that are held back, with the reason; or release or delete some."""
    from dataclasses import asdict

    from coda.output import console, print_json, results

    with _pool(config) as pool:
        for number in release or []:
            console.print(f"{number}: {pool.release(number)} samples are in the pool now")
        for number in drop or []:
            console.print(f"{number}: {pool.drop(number)} samples are deleted")
        held = pool.held()
    if as_json:
        print_json([asdict(one) for one in held])
        return
    if not held:
        console.print("nothing is held back")
    for one in held:
        results.print(f"{one.number:>6}  {one.contributor:24} {one.samples:>7} samples  {one.reason}", markup=False)


@app.command(epilog="Example:  coda cloud pool export pool.parquet --config cloud.toml")
def export(table: Table, config: Config) -> None:
    """Write all samples to a table, with their contributors' names: keep it as you keep the pool."""
    from cloud_broker.pool.tables import export_pool
    from coda.output import console

    with _pool(config) as pool, _progress(f"writing {table.name}") as on_progress:
        samples = export_pool(pool, table, on_progress)
    console.print(f"{samples:,} samples are in {table}")


@app.command(
    name="import", epilog="Example:  coda cloud pool import samples.csv --config cloud.toml --errors refused.csv"
)
def import_(
    table: Table,
    config: Config,
    errors: Annotated[Path | None, typer.Option(help="CSV for rows that cannot be used, with the reason.")] = None,
    schema: Annotated[Path | None, typer.Option(help="Features of a new pool, JSON as `list --json` prints.")] = None,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Its contributors allow matching by agreement.")
    ] = False,
) -> None:
    """Take a table's samples into the pool. Rows that cannot be used are left out; importing again adds nothing."""
    from cloud_broker.pool.tables import import_table
    from coda.output import console

    with _pool(config, schema) as pool, _progress(f"reading {table.name}") as on_progress:
        done = import_table(pool, table, errors, on_progress, agreement=agreement)
    console.print(
        f"{done.rows:,} rows: {done.added:,} samples are new in the pool, {done.refused:,} rows cannot be used"
    )
    if done.refused:
        console.print(f"see {errors}" if errors else "name a file with --errors to see why")


@app.command(epilog="Example:  coda cloud pool forget kiosk-1 --config cloud.toml")
def forget(
    contributor: Annotated[str, typer.Argument(help="The contributor's name: a device's, or that of an import.")],
    config: Config,
) -> None:
    """Delete all that a contributor gave: from disk, index and waiting answers, in every worker."""
    import uuid
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.storage.collecting import Collecting
    from cloud_broker.workers.answer_store import AnswerStore
    from cloud_broker.workers.forgetting import forget_contributor
    from coda.output import console

    loaded = load_config(config)
    answers = AnswerStore(loaded.state_dir)
    with _pool(config) as pool, closing(Collecting(loaded.place)) as collecting:
        deleted = forget_contributor(pool, answers, collecting, contributor, f"operator-{uuid.uuid4().hex}")
    console.print(f"{deleted:,} samples of {contributor} are deleted")


@contextmanager
def _pool(config: Path, schema: Path | None = None) -> Iterator[SamplePool]:
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.pool.sample_pool import SamplePool
    from cloud_broker.state import POOL

    loaded = load_config(config)
    features = None if schema is None else _schema(schema)
    with closing(SamplePool(loaded.state_dir / POOL, features, loaded.pool)) as pool:
        yield pool


def _schema(path: Path) -> FeatureSchema:
    import json

    from coda.errors import UsageError
    from protocol.errors import MalformedMessageError
    from protocol.schema import FeatureSchema

    try:
        return FeatureSchema.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, MalformedMessageError) as error:
        raise UsageError(f"{path} does not describe features: {error}") from error


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from coda.output import progress

    with progress() as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)
