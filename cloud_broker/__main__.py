"""`python -m cloud_broker`: one part of a cloud of several processes, as the supervisor starts it.

Events go to standard output, one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from cloud_broker.config import load_config
from cloud_broker.errors import CloudError
from cloud_broker.observing.structured_logs import log_from_environment
from cloud_broker.telling import Event, StoppedEarlyError
from cloud_broker.workers.roles import look_after, train, work
from converters.errors import ConverterError
from protocol.errors import ProtocolError

# What happens a thousand times a second: to print it and read it took a quarter of a worker's time.
_TOLD_BY_METRICS = frozenset({"matched", "rows"})


def main(arguments: list[str] | None = None) -> int:
    """Run the part until it is done or told to stop by SIGTERM.

    Returns:
        0 when done or told to stop, 1 on an error, which is then one line on standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m cloud_broker", description="One part of a cloud.")
    parser.add_argument("--config", type=Path, required=True, help="the cloud's configuration, TOML")
    parser.add_argument("role", choices=("tend", "work", "train"))
    parser.add_argument("--number", type=int, default=1, help="which worker")
    asked = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    log_from_environment()
    try:
        config = load_config(asked.config)
        if asked.role == "tend":
            look_after(config, stop, _print)
        elif asked.role == "work":
            work(config, asked.number, stop, _print)
        else:
            train(config, stop, _print, again=False)
    except StoppedEarlyError:
        return 0
    except (CloudError, ConverterError, ProtocolError, OSError) as error:
        sys.stderr.write(f"coda: {asked.role}: {error}\n")
        return 1
    return 0


def _print(event: Event) -> None:
    if event["event"] in _TOLD_BY_METRICS:
        return
    sys.stdout.write(json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
