"""`coda cloud database`: the cloud's database, SQLite or PostgreSQL by URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The cloud's database: bring it up to date, look at it.", no_args_is_help=True)

Config = Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")]


@app.command(epilog="Example:  coda cloud database upgrade --config cloud.toml")
def upgrade(config: Config) -> None:
    """Bring the database to this version's tables now; whatever opens it first would do the same.

    State of an earlier version in the state folder, a SQLite file a store, is taken over.
    """
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.storage.database import SharedDatabase
    from coda.output import console

    with closing(SharedDatabase(load_config(config).place)) as database:
        console.print(f"{database.name} is up to date: {database.condition().version}", markup=False)


@app.command(epilog="Example:  coda cloud database copy laptop.toml --config cloud.toml")
def copy(
    source: Annotated[Path, typer.Argument(help="The configuration of the cloud whose state it is; stop it first.")],
    config: Config,
) -> None:
    """Copy a cloud's database and blobs into those that another configuration names, which are empty yet.

    This is how a cloud moves from SQLite and disk to PostgreSQL and S3. The pool stays a folder: let both name it.
    """
    from cloud_broker.config import load_config
    from cloud_broker.storage.copying import copy_state
    from coda.output import console

    copied = copy_state(
        load_config(source).place, load_config(config).place, lambda line: console.print(line, markup=False)
    )
    console.print(f"{copied.rows:,} rows and {copied.blobs:,} blobs are copied")


@app.command(epilog="Example:  coda cloud database check --config cloud.toml")
def check(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """See that the database is there, has the tables it should, and is whole; exit code 1 if not."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.storage.database import SharedDatabase
    from coda.output import print_json, results

    with closing(SharedDatabase(load_config(config).place)) as database:
        condition = database.condition()
    if as_json:
        print_json({"database": database.name, **vars(condition), "sound": condition.sound})
    else:
        results.print(f"{database.name}: {database.dialect}, version {condition.version}", markup=False)
        for fault in condition.faults:
            results.print(f"  {fault}", markup=False)
        results.print("sound" if condition.sound else "not as it should be", markup=False)
    if not condition.sound:
        raise typer.Exit(1)
