"""`coda fleet`: who belongs to a fleet, and who no longer does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The fleet's members: enrol, list, revoke, renew.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="The fleet's directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HERE = Path("fleet")


@app.command(epilog="Example:  coda fleet init --dir fleet --fleet home --address server.local")
def init(
    fleet: Annotated[str, typer.Option(help="Name of the fleet.")],
    address: Annotated[str, typer.Option(help="Name or address by which devices reach broker and enrolment service.")],
    directory: Directory = _HERE,
    port: Annotated[int, typer.Option(help="The broker's port.", min=1, max=65535)] = 8883,
    enrolment_port: Annotated[int, typer.Option(help="The enrolment service's port.", min=1, max=65535)] = 8884,
    as_json: AsJson = False,
) -> None:
    """Make a fleet: its certificate authority, and where its devices find it."""
    from cloud_broker.membership.fleet import Fleet
    from coda.output import console, print_json

    authority = Fleet.create(directory, Fleet(fleet, address, port, enrolment_port))
    if as_json:
        print_json({"fleet": fleet, "authority_sha256": authority.fingerprint, "directory": str(directory)})
        return
    console.print(f"fleet {fleet} in {directory}; its authority is {authority.fingerprint}")
    console.print(f"keep {directory}/certificates/ca.key safe: whoever has it can be any device or the cloud")


@app.command(epilog="Example:  coda fleet enroll pi-1 --dir fleet")
def enroll(
    device: Annotated[str, typer.Argument(help="The device's name in topics.")],
    directory: Directory = _HERE,
    hours: Annotated[float, typer.Option(help="How long the token works.", min=0.01, max=24 * 30)] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Print a one-time token by which a device joins under this name: coda edge enroll."""
    from cloud_broker.membership.fleet import Fleet, new_token
    from coda.output import console, print_json

    text = new_token(directory, device, 3600 * hours).to_text()
    if as_json:
        print_json({"device": device, "token": text})
        return
    port = Fleet.open(directory).enrolment_port
    console.print(f"works once, for {hours:g} hours, while `coda fleet serve` runs on port {port}; on the device:\n")
    typer.echo(f"coda edge enroll {text}")


@app.command(epilog="Example:  coda fleet serve --dir fleet")
def serve(
    directory: Directory = _HERE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - devices must reach it
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Enrol devices that have a token, and renew the certificates of those that have one, until Ctrl-C."""
    from cloud_broker.membership.enrolment import EnrolmentServer
    from cloud_broker.membership.fleet import Fleet
    from coda.output import log_to_stderr, print_event, print_event_line
    from edge.signals import stop_on_signals

    log_to_stderr()
    fleet = Fleet.open(directory)
    with stop_on_signals() as stop, EnrolmentServer(directory, host, fleet.enrolment_port, (fleet.address,)) as server:
        event = {"event": "enrolling", "fleet": fleet.name, "host": host, "port": server.port}
        (print_event if as_json else print_event_line)(event)
        stop.wait()


@app.command("list", epilog="Example:  coda fleet list --dir fleet --json")
def list_(directory: Directory = _HERE, as_json: AsJson = False) -> None:
    """Show who has a certificate, until when, whose was taken back, and which tokens wait."""
    from cloud_broker.membership.fleet import members
    from coda.output import print_json, results

    found = members(directory)
    if as_json:
        print_json([{"name": one.name, "kind": one.kind, "state": one.state, "expires": one.expires} for one in found])
        return
    for one in found:
        results.print(f"{one.name:24} {one.kind:10} {one.state:10} {one.expires or '-'}", markup=False)


@app.command(epilog="Example:  coda fleet revoke pi-1 --dir fleet")
def revoke(
    name: Annotated[str, typer.Argument(help="A device, or a cloud worker.")],
    directory: Directory = _HERE,
    as_json: AsJson = False,
) -> None:
    """Take back a member's certificates and cut its connection; nobody else is dropped."""
    from cloud_broker.membership import revocation
    from coda.output import console, print_json

    done = revocation.revoke(directory, name)
    if as_json:
        print_json({"name": name, **vars(done)})
        return
    console.print(f"{name}: {done.certificates} certificates taken back")
    if done.disconnected:
        console.print("the broker refuses them, and the member's connection is closed")
    else:
        crl = directory / "certificates" / "crl.pem"
        console.print(
            f"[bold]no broker of {directory} runs here[/bold]: {name} stays connected until the broker has {crl}"
        )


@app.command(epilog="Example:  coda fleet rotate --dir fleet")
def rotate(
    directory: Directory = _HERE,
    everything: Annotated[bool, typer.Option("--all", help="Also what is not due yet.")] = False,
    as_json: AsJson = False,
) -> None:
    """Renew the broker's, the enrolment service's and the workers' certificates that are due; no connection is lost."""
    from cloud_broker.membership import rotation
    from coda.output import console, print_json

    renewed = [identity.name for identity in rotation.rotate(directory, everything=everything)]
    if as_json:
        print_json({"renewed": renewed})
        return
    console.print(f"renewed: {', '.join(renewed)}" if renewed else "nothing is due")
