"""`coda broker`: a private Mosquitto with certificates for everyone."""

from __future__ import annotations

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
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Write a private Mosquitto configuration, certificates and access list, and run it until Ctrl-C."""
    from cloud_broker.broker import Broker, write_broker_directory
    from coda.output import console, print_event
    from edge.signals import stop_on_signals

    config = write_broker_directory(directory, fleet, host, port, host_names=name or [])
    identities = [config.authority().device(one) for one in device or []]
    with stop_on_signals() as stop, Broker(config) as broker:
        if as_json:
            print_event({"event": "listening", "host": host, "port": port, "version": broker.version})
        else:
            console.print(f"Mosquitto {broker.version} listens on {host}:{port} for fleet {fleet}; Ctrl-C ends it")
            for identity in identities:
                console.print(f"  {identity.name}: {identity.cert_file}")
        stop.wait()
