"""The `coda` command: its sub-commands, its exit codes, and errors in one line.

Exit codes: 0 done, 1 failed, 2 used wrongly, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from coda.commands import (
    broker,
    bundle,
    cloud,
    convert,
    demo,
    edge,
    evaluate,
    flash,
    fleet,
    hardware,
    inspect,
    release,
    report,
    simulate,
)
from coda.errors import UsageError, known_roots

app = typer.Typer(
    name="coda",
    help="Personalise a recommender on the device it runs on, with the cloud's help, and measure what that costs.",
    epilog="Begin with:  coda demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command(epilog=demo.EPILOG)(demo.demo)
app.add_typer(cloud.app, name="cloud")
app.add_typer(edge.app, name="edge")
app.add_typer(broker.app, name="broker")
app.add_typer(fleet.app, name="fleet")
app.add_typer(flash.app, name="flash")
app.add_typer(release.app, name="release")
app.add_typer(bundle.app, name="bundle")
app.command(epilog=convert.EPILOG)(convert.convert)
app.command(epilog=inspect.EPILOG)(inspect.inspect)
app.add_typer(hardware.app, name="hardware")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(report.app, name="report")
app.command(epilog=simulate.EPILOG)(simulate.simulate)

_DEBUG = {"on": False}


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command's name."""
    _DEBUG["on"] = debug


@app.command(epilog="Example:  coda version --json")
def version(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the versions of this program and of what it found on this machine."""
    from coda.output import print_json
    from coda.versions import installed_versions

    versions = installed_versions()
    if as_json:
        print_json(versions)
        return
    for name, found in versions.items():
        typer.echo(f"{name:16} {found or '-'}")


def main() -> None:
    """Entry point of the console script."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _DEBUG["on"] or not isinstance(error, known_roots()):
            raise
        typer.echo(f"coda: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)


if __name__ == "__main__":
    main()
