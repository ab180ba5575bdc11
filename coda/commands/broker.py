"""`coda broker`: a private Mosquitto with certificates for everyone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The MQTT broker.", no_args_is_help=True)


@app.command(epilog="Example:  coda broker up --dir fleet --fleet shop --port 8883 --device kiosk-1 --device kiosk-2")
def up(
    directory: Annotated[Path, typer.Option("--dir", help="Where configuration, certificates and queue are kept.")],
    fleet: Annotated[str, typer.Option(help="Name of the fleet.")] = "home",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8883,
    device: Annotated[list[str] | None, typer.Option(help="Make this device a certificate; repeatable.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="Another name devices reach it by; repeatable.")] = None,
    workers: Annotated[int, typer.Option(help="Cloud workers that may connect, as coda cloud serve has.", min=1)] = 1,
    insecure: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Let anyone on this machine read everything at this port, without TLS."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Write a private Mosquitto configuration, certificates and access list, and run it until Ctrl-C."""
    from cloud_broker.config import worker_name
    from cloud_broker.mosquitto.broker import Broker, write_broker_directory
    from coda.output import console, print_event
    from edge.signals import stop_on_signals

    names = [worker_name("cloud", number) for number in range(1, workers + 1)]
    config = write_broker_directory(directory, fleet, host, port, names, host_names=name or [], insecure_port=insecure)
    if insecure is not None:
        warning = (
            f"INSECURE: whoever is on this machine reads all of fleet {fleet} at 127.0.0.1:{insecure}, unencrypted"
        )
        console.print(f"[bold white on red]{warning}[/]")
    identities = [config.authority().device(one) for one in device or []]
    with stop_on_signals() as stop, Broker(config) as broker:
        if as_json:
            print_event({"event": "listening", "host": host, "port": port, "version": broker.version})
        else:
            console.print(f"Mosquitto {broker.version} listens on {host}:{port} for fleet {fleet}; Ctrl-C ends it")
            for identity in identities:
                console.print(f"  {identity.name}: {identity.cert_file}")
        stop.wait()


@app.command(epilog="Example:  coda broker init fleet --host 0.0.0.0")
def init(
    directory: Annotated[Path, typer.Argument(help="The fleet's directory, from coda fleet init.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - devices must reach it
    worker: Annotated[list[str] | None, typer.Option(help="A cloud worker's name; repeatable.")] = None,
    workers: Annotated[int, typer.Option(help="So many, named cloud, cloud-2 and so on.", min=1)] = 1,
    user: Annotated[str | None, typer.Option(help="Whom the services run as; by default who calls this.")] = None,
) -> None:
    """Write a hardened Mosquitto configuration for a fleet, and systemd units for it and the enrolment service."""
    import getpass

    from cloud_broker.config import worker_name
    from cloud_broker.files import make_private_directory
    from cloud_broker.membership.fleet import Fleet
    from cloud_broker.mosquitto.broker import find_mosquitto, write_broker_directory
    from cloud_broker.mosquitto.systemd_units import broker_unit, enrolment_unit
    from coda.output import console

    fleet, directory = Fleet.open(directory), directory.resolve()
    names = tuple(worker or [worker_name("cloud", number) for number in range(1, workers + 1)])
    config = write_broker_directory(
        directory, fleet.name, host, fleet.broker_port, names, host_names=[fleet.address], journal=True
    )
    config.authority().enrolment([fleet.address])  # systemd hides from the broker only what is there
    make_private_directory(directory / "tokens")
    account, coda = user or getpass.getuser(), Path(sys.executable).with_name("coda")
    units = {
        "coda-broker.service": broker_unit(directory, fleet.name, fleet.broker_port, find_mosquitto(), account),
        "coda-enrolment.service": enrolment_unit(directory, fleet.name, fleet.enrolment_port, coda, account),
    }
    for name, text in units.items():
        (directory / name).write_text(text)
    console.print(f"wrote {directory}/mosquitto.conf, acl, {', '.join(units)}; to have systemd run them:")
    console.print(f"  sudo cp {directory}/*.service /etc/systemd/system/")
    console.print("  sudo systemctl daemon-reload && sudo systemctl enable --now coda-broker coda-enrolment")


@app.command(epilog="Example:  coda broker check mqtts://server.local:8883 --dir fleet")
def check(
    url: Annotated[str, typer.Argument(help="mqtts://HOST[:PORT], or mqtt:// without TLS.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The fleet's directory, to certify the probes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try everything that the tunnel needs of a broker, and say what is missing; exit code 1 if anything is."""
    from cloud_broker.mosquitto.check import check_broker
    from coda.output import print_json, results

    findings = []
    for finding in check_broker(url, directory):
        findings.append(finding)
        if not as_json:
            mark = "ok     " if finding.ok else "MISSING"
            results.print(f"{mark} {finding.name:24} {finding.detail}", markup=False)
    if as_json:
        print_json([vars(finding) for finding in findings])
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
