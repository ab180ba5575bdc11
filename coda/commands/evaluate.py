"""`coda evaluate`: does personalisation pay?"""

from __future__ import annotations

import typer

app = typer.Typer(help="Does personalisation pay? The device's own code over many users.", no_args_is_help=True)
