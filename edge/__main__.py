"""`python -m edge`: the device's service as a process of its own.

`coda edge run` becomes this process instead of importing it: the command line's toolkit would cost a small board some
10 MB for as long as the service lives.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge.config import load_config
from edge.errors import EdgeError
from edge.memory import return_freed_memory
from edge.service import EdgeService
from edge.signals import stop_on_signals
from protocol.errors import ProtocolError


def main(arguments: list[str] | None = None) -> int:
    """Run the service until it is done or told to stop.

    Args:
        arguments: As on the command line; those of this process by default.

    Returns:
        0 when done or told to stop, 1 on an error, which is then one line on standard error.
    """
    parser = argparse.ArgumentParser(prog="coda edge run", description="Wait for tasks, personalise, report.")
    parser.add_argument("--config", type=Path, required=True, help="the device's configuration, TOML")
    parser.add_argument("--once", action="store_true", help="do one round, deliver its report, and end")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    chosen = parser.parse_args(arguments)
    return_freed_memory()
    try:
        with stop_on_signals() as stop:
            service = EdgeService(load_config(chosen.config), _print_json if chosen.json else _print_line)
            if chosen.once:
                service.run_once(stop)
            else:
                service.run_forever(stop)
    except (EdgeError, ProtocolError, OSError) as error:
        if chosen.debug:
            raise
        sys.stderr.write(f"coda: {error}\n")
        return 1
    return 0


def _print_json(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()


def _print_line(event: dict[str, Any]) -> None:
    fields = "  ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    sys.stderr.write(f"{event['event']}: {fields}\n")


if __name__ == "__main__":
    sys.exit(main())
