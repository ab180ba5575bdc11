"""`coda edge`: the device's service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The device's service.", no_args_is_help=True)


@app.command(epilog="Example:  coda edge run --config device.toml --once")
def run(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="The device's configuration, TOML.")],
    once: Annotated[bool, typer.Option("--once", help="Do one round, deliver its report, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Wait for tasks, personalise, report."""
    debug = bool(context.find_root().params.get("debug"))
    flags = [name for name, on in (("--once", once), ("--json", as_json), ("--debug", debug)) if on]
    # Become the service's own, smaller process; see `edge.__main__`.
    os.execv(sys.executable, [sys.executable, "-m", "edge", "--config", str(config), *flags])  # noqa: S606 - no shell
