"""One process of a simulation: python -m coda.simulation ORDER, which is a `coda.simulation.herd.Order` in JSON.

It connects its devices and says so; then for each line on standard input, a `Wave` in JSON, it has them ask, and prints
what came of it; it ends when there are no more lines.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cloud_broker.config import load_config
from coda.errors import known_roots
from coda.simulation.credentials import PREFIX, Credentials
from coda.simulation.crowd import Crowd
from coda.simulation.herd import Order, Wave
from coda.simulation.profiles import published_profiles
from coda.simulation.questions import Questions
from protocol.messages import Query


def main() -> int:
    """Do as ordered; 1 with a line on standard error where that fails."""
    order = Order(**json.loads(sys.argv[1]))
    try:
        _run(order)
    except known_roots() as error:
        sys.stderr.write(f"coda: simulation: {error}\n")
        return 1
    return 0


def _run(order: Order) -> None:
    where = load_config(Path(order.config)).place if order.config else Path(order.state_dir)
    profiles, rng = published_profiles(where, order.seed), np.random.default_rng(order.seed)

    def make_query(query_id: str) -> Query:
        return profiles.query(
            query_id, rng, centroids=order.centroids, samples=order.samples, max_bytes=order.max_bytes
        )

    names = [f"{PREFIX}{order.run}-{number:05d}" for number in range(order.first, order.first + order.devices)]
    with (
        Credentials(Path(order.directory), order.fleet, order.host, order.port) as credentials,
        Crowd(
            credentials, names, profiles.schema, Questions(make_query), seed=order.seed, decode_share=order.decode_share
        ) as crowd,
    ):
        elapsed_s = crowd.connect()
        # Thousands of devices stay: to look through them for garbage would make all of them late.
        gc.collect()
        gc.freeze()
        _tell({"event": "connected", "elapsed_s": elapsed_s})
        for line in iter(sys.stdin.readline, ""):
            wave = Wave(**json.loads(line))
            found = crowd.ask(wave.rate, wave.duration_s, wave.patience_s)
            _tell({"event": "found", "figures": found.to_dict()})


def _tell(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
