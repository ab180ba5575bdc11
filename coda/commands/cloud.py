"""`coda cloud`: the cloud's service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The cloud's service.", no_args_is_help=True)


@app.command(epilog="Example:  coda cloud serve --config cloud.toml")
def serve(
    config: Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Train and publish the models if none are published, leave the devices their tasks, and serve until Ctrl-C."""
    from cloud_broker.config import load_config
    from cloud_broker.service import CloudService
    from coda.output import print_event, print_event_line
    from edge.signals import stop_on_signals

    with stop_on_signals() as stop:
        CloudService(load_config(config), print_event if as_json else print_event_line).run(stop)


@app.command(epilog="Example:  coda cloud data --config cloud.toml")
def data(
    config: Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what the workers' data was for, by day and purpose."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.ledger import Ledger
    from coda.data_table import print_days

    with closing(Ledger(load_config(config).state_dir)) as ledger:
        print_days(ledger.data_use.by_day(), as_json=as_json)


@app.command(name="pull-logs", epilog="Example:  coda cloud pull-logs kiosk-1 --config cloud.toml --wait 60")
def pull_logs(
    device: Annotated[str, typer.Argument(help="The device's name.")],
    config: Annotated[Path, typer.Option(help="The configuration of a cloud service that runs.")],
    wait: Annotated[float, typer.Option(help="Seconds to wait for the log.", min=0.0)] = 60.0,
) -> None:
    """Ask a device what happened on it lately, and print that; one that is away answers when it is back."""
    import time
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.logs import Logs
    from coda.errors import UsageError
    from coda.output import console

    with closing(Logs(load_config(config).state_dir)) as logs:
        request_id = logs.ask(device)
        path, deadline_s = logs.path(device, request_id), time.monotonic() + wait
        with console.status(f"asking {device}"):
            while not logs.answered(request_id) and time.monotonic() < deadline_s:
                time.sleep(0.2)
        if not logs.answered(request_id):
            raise UsageError(f"{device} sent no log within {wait:g} s; when it does, the log will be in {path}")
    typer.echo(path.read_text(), nl=False)
