"""`coda cloud`: the cloud's service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coda.commands import cloud_database, cloud_devices, cloud_experiment, cloud_models, cloud_pool, cloud_task

app = typer.Typer(help="The cloud's service.", no_args_is_help=True)
app.add_typer(cloud_pool.app, name="pool")
app.add_typer(cloud_models.app, name="models")
app.add_typer(cloud_database.app, name="database")
app.add_typer(cloud_task.app, name="task")
app.add_typer(cloud_experiment.app, name="experiment")
app.command(epilog=cloud_devices.DEVICES_EPILOG)(cloud_devices.devices)
app.command(epilog=cloud_devices.TAG_EPILOG)(cloud_devices.tag)


LogFormat = Annotated[str, typer.Option(help="How log lines are written on standard error: text or json.")]
LogLevel = Annotated[str, typer.Option(help="The least that is logged: debug, info, warning or error.")]


@app.command(epilog="Example:  coda cloud serve --config cloud.toml --workers 4 --log-format json")
def serve(
    config: Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")],
    workers: Annotated[int, typer.Option(help="Processes that answer devices; 1 does all in one.", min=1, max=64)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
    log_format: LogFormat = "text",
    log_level: LogLevel = "warning",
) -> None:
    """Train and publish the models if none are published, leave the devices their tasks, and serve until Ctrl-C."""
    from cloud_broker.config import load_config
    from cloud_broker.service import CloudService
    from cloud_broker.workers.supervisor import Supervisor
    from coda.announcing import announced
    from coda.output import print_event, print_event_line
    from edge.signals import stop_on_signals

    _log(log_format, log_level)
    loaded = load_config(config)
    with stop_on_signals() as stop, announced(print_event if as_json else print_event_line) as tell:
        if workers == 1:
            CloudService(loaded, tell).run(stop)
        else:
            Supervisor(config, loaded, workers, tell).run(stop)


@app.command(epilog="Example:  coda cloud unit | sudo tee /etc/systemd/system/coda-cloud.service")
def unit() -> None:
    """Print the systemd unit that runs the cloud's service."""
    from importlib import resources

    typer.echo((resources.files("cloud_broker") / "units/coda-cloud.service").read_text("utf-8"), nl=False)


@app.command(epilog="Example:  coda cloud train --config cloud.toml")
def train(
    config: Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")],
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Publish as a candidate: see `coda cloud models promote`.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Train on the pool as it is now, and publish; a cloud that serves takes the models up at once.

    With --candidate devices keep the models that they have.
    """
    from cloud_broker.config import load_config
    from cloud_broker.storage.stages import CANDIDATE, LIVE
    from cloud_broker.telling import StoppedEarlyError
    from cloud_broker.workers.roles import train as train_and_publish
    from coda.output import print_event, print_event_line
    from edge.signals import stop_on_signals

    with stop_on_signals() as stop:
        try:
            tell, stage = print_event if as_json else print_event_line, CANDIDATE if candidate else LIVE
            train_and_publish(load_config(config), stop, tell, again=True, stage=stage)
        except StoppedEarlyError:
            raise typer.Exit(130) from None


def _log(form: str, level: str) -> None:
    from cloud_broker.observing.structured_logs import FORMATS, LEVELS, configure_logs
    from coda.errors import UsageError

    for what, value, known in (("--log-format", form, FORMATS), ("--log-level", level, LEVELS)):
        if value not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}, got {value!r}")
    configure_logs(form, level)


@app.command(epilog="Example:  coda cloud data --config cloud.toml")
def data(
    config: Annotated[Path, typer.Option(help="The cloud's configuration, TOML.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what the workers' data was for, by day and purpose."""
    from contextlib import closing

    from cloud_broker.config import load_config
    from cloud_broker.storage.ledger import Ledger
    from coda.data_table import print_days

    with closing(Ledger(load_config(config).place)) as ledger:
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
    from cloud_broker.storage.logs import Logs
    from coda.errors import UsageError
    from coda.output import console

    with closing(Logs(load_config(config).place)) as logs:
        request_id = logs.ask(device)
        path, deadline_s = logs.path(device, request_id), time.monotonic() + wait
        with console.status(f"asking {device}"):
            while not logs.answered(request_id) and time.monotonic() < deadline_s:
                time.sleep(0.2)
        if not logs.answered(request_id):
            raise UsageError(f"{device} sent no log within {wait:g} s; when it does, the log will be in {path}")
    typer.echo(path.read_text(), nl=False)
