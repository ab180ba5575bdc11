"""`coda demo`: a whole round, for real, on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from converters.zoo.names import DEFAULT_RECOMMENDER, RECOMMENDERS

EPILOG = "Example:  coda demo --data ml-100k --labels explicit --devices 4"


def demo(
    data: Annotated[
        str,
        typer.Option(help="ml-latest-small, ml-100k, synthetic, or a folder in the layout of one of the first two."),
    ] = "ml-latest-small",
    labels: Annotated[
        str, typer.Option(help="implicit: liked against drawn by popularity; explicit: rated 4 or better.")
    ] = "implicit",
    model: Annotated[str, typer.Option(help=f"h0's network: {', '.join(RECOMMENDERS)}.")] = DEFAULT_RECOMMENDER,
    devices: Annotated[int, typer.Option(help="Device processes.", min=1, max=64)] = 8,
    local_events: Annotated[int, typer.Option(help="A device keeps its user's latest so many events.", min=1)] = 20,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; runs/demo-TIME by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds every random choice.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Train h0 for one epoch: a smoke test, not a result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a private Mosquitto with mutual TLS, one cloud process and some device processes through a whole round."""
    from coda.demo import DemoOptions, run_demo
    from coda.errors import UsageError
    from coda.output import print_json
    from evaluation.samples import Labels

    if labels not in {one.value for one in Labels}:
        raise UsageError(f"--labels {labels}: use implicit or explicit")
    if model not in RECOMMENDERS:
        raise UsageError(f"--model {model}: use one of {', '.join(RECOMMENDERS)}")
    options = DemoOptions(data, Labels(labels), devices, local_events, seed, quick, model)
    summary = run_demo(options, out)
    if as_json:
        print_json(summary)
