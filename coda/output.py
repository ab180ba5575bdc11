"""How commands speak: results on standard output (a person's or JSON), everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False, soft_wrap=True)
results = Console(highlight=False, soft_wrap=True)


def print_json(values: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_event(event: dict[str, Any]) -> None:
    """One JSON object on a line of its own, for a parent process that reads along."""
    sys.stdout.write(json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()


def print_event_line(event: dict[str, Any]) -> None:
    """The same for a person: the event's name and its fields, on standard error."""
    fields = "  ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    sys.stderr.write(f"{event.get('event')}: {fields}\n")


def log_to_stderr() -> None:
    """Let the services' log lines, with their time, be seen on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars on standard error; silent where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield bars
