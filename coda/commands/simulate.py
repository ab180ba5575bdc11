"""`coda simulate`: light clients that speak the real protocol, to see what a cloud bears."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example:  coda simulate --devices 500 --rate 50 --config cloud.toml --fleet-dir fleet"


def simulate(
    config: Annotated[Path, typer.Option(help="The configuration of a cloud that runs.")],
    fleet_dir: Annotated[Path, typer.Option(help="The fleet's directory: its authority certifies the devices.")],
    devices: Annotated[int, typer.Option(help="Devices that are connected.", min=1, max=100_000)] = 500,
    rate: Annotated[float, typer.Option(help="Match requests a second, of all devices together.", min=0.01)] = 50.0,
    seconds: Annotated[float, typer.Option(help="How long they ask.", min=0.1)] = 30.0,
    samples: Annotated[int, typer.Option(help="Matched samples that each asks for.", min=1)] = 100,
    processes: Annotated[int, typer.Option(help="Processes to spread the devices over.", min=1, max=64)] = 2,
    patience: Annotated[float, typer.Option(help="Seconds to go on with those that are put off.", min=0.1)] = 15.0,
    seed: Annotated[int, typer.Option(help="Of when who asks for what.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Connect simulated devices, have them ask for matched samples, and tell how long that took and what was lost.

    They greet, ask, pull and check what they get as real ones do, but train nothing; their presence and names stay in
    the cloud's ledger. What they ask for are profiles of made-up samples, as the published model sees them.
    """
    import uuid

    from rich.table import Table

    from cloud_broker.config import load_config
    from coda.output import console, print_json, results
    from coda.simulation.figures import figures, rows
    from coda.simulation.herd import Herd, Order, Wave

    cloud = load_config(config)
    order = Order(
        directory=str(fleet_dir), state_dir=str(cloud.state_dir), fleet=cloud.fleet, host=cloud.host, port=cloud.port,
        devices=devices, samples=samples, seed=seed, run=uuid.uuid4().hex[:6], config=str(config.absolute()),
    )  # fmt: skip
    wave = Wave(rate, seconds, patience)
    with Herd(order, processes) as herd:
        elapsed_s = herd.connect()
        console.print(f"{devices} devices connected in {elapsed_s:.1f} s")
        found = figures(herd.ask(wave), wave) | {"devices": devices, "connected_in_s": elapsed_s}
    if as_json:
        print_json(found)
        return
    table = Table(show_header=False)
    for name, value in rows(found):
        table.add_row(name, value)
    results.print(table)
