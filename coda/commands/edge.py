"""`coda edge`: the device's service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from coda.commands import edge_care, edge_state

app = typer.Typer(help="The device's service.", no_args_is_help=True)
app.add_typer(edge_state.outbox, name="outbox")
app.command(epilog="Example:  coda edge data --config device.toml")(edge_state.data)
for command in edge_care.ALL:
    app.command(epilog=f"Example:  coda edge {command.__name__} --config device.toml")(command)


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
    # Become the service's own, smaller process, of the release that is to run; see `edge.updates.handover`.
    command = [sys.executable, "-m", "edge.updates.handover", "--config", str(config), *flags]
    os.execv(sys.executable, command)  # noqa: S606 - no shell


@app.command(epilog="Example:  coda edge enroll coda1.k4Zm... --dir device")
def enroll(
    invitation: Annotated[
        str, typer.Argument(metavar="TOKEN", help="From `coda fleet enroll`; - to read it from stdin.")
    ],
    directory: Annotated[Path, typer.Option("--dir", help="Where key, certificate and configuration go.")] = Path(),
) -> None:
    """Join a fleet: make a key, which never leaves this device, and have it certified."""
    from edge.tunnel.enrolment import enrol

    written = enrol(sys.stdin.read(2048) if invitation == "-" else invitation, directory)
    typer.echo(f"enrolled; run:  coda edge run --config {written}", err=True)


@app.command(epilog="Example:  coda edge unit | sudo tee /etc/systemd/system/coda-edge.service")
def unit() -> None:
    """Print the systemd unit that runs the device's service, as a flashed board has it."""
    from hardware.flash.firstboot import SERVICE_UNIT

    typer.echo(SERVICE_UNIT, nl=False)


@app.command(epilog="Example:  coda edge renew --config device.toml")
def renew(config: Annotated[Path, typer.Option(help="The device's configuration, TOML.")]) -> None:
    """Get a new key and certificate now; `coda edge run` does so by itself in the last third of the old one's life."""
    from edge.config import load_config
    from edge.tunnel.enrolment import renew as renew_certificate

    renew_certificate(load_config(config))
    typer.echo("renewed", err=True)
