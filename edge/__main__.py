"""`python -m edge`: the device's service as a process of its own.

`coda edge run` becomes this process instead of importing it: the command line's toolkit would cost a small board some
10 MB for as long as the service lives.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from edge.backoff import Restarts
from edge.config import load_config
from edge.errors import EdgeError, HandOverError
from edge.memory import return_freed_memory
from edge.service import OPENING_S, EdgeService
from edge.signals import stop_on_signals
from edge.supervision import Supervisor
from edge.updates.handover import hand_over
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
    faulthandler.enable()  # what it was doing when the watchdog ended it, or a fault, is on standard error
    return_freed_memory()
    supervisor, restarts = Supervisor.from_environment(), Restarts(_folder_of_unit())
    try:
        with stop_on_signals() as stop:
            _wait_after_crashes(restarts, supervisor, stop)
            if stop.is_set():
                return 0
            config = load_config(chosen.config)
            service = EdgeService(config, _print_json if chosen.json else _print_line, supervisor)
            if chosen.once:
                service.run_once(stop)
            else:
                service.run_forever(stop)
            restarts.ended_well()
    except HandOverError as error:
        sys.stderr.write(f"coda: {error}\n")
        restarts.ended_well()
        hand_over(arguments)
    except (EdgeError, ProtocolError, OSError) as error:
        if chosen.debug:
            raise
        sys.stderr.write(f"coda: {error}\n")
        return 1
    return 0


def _folder_of_unit() -> Path | None:
    """What systemd keeps for this service; None where it was not started by a unit."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def _wait_after_crashes(restarts: Restarts, supervisor: Supervisor, stop: threading.Event) -> None:
    crashes, wait_s = restarts.begin()
    if wait_s:
        supervisor.starting(f"ended badly {crashes} times in a row; starting in {wait_s:.0f} s", wait_s + OPENING_S)
        supervisor.rest(stop, wait_s)


def _print_json(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()


def _print_line(event: dict[str, Any]) -> None:
    if event["event"] == "progress" and "JOURNAL_STREAM" in os.environ:
        return  # for somebody who watches; a journal keeps it
    fields = "  ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    sys.stderr.write(f"{event['event']}: {fields}\n")


if __name__ == "__main__":
    sys.exit(main())
