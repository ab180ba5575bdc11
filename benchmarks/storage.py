"""Print what the cloud's database costs a message: python -m benchmarks.storage.

Over SQLite, and over a PostgreSQL of its own on the same machine, where that is installed. Every write is flushed: on
another disk than this one's the figures of writes are others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from cloud_broker.models.registry import Registry
from cloud_broker.storage.ledger import Ledger
from protocol.messages import Hello, Report
from tests.cloud_broker.samples import SCHEMA

_WARM = 50


def costs_ms(ledger: Ledger, registry: Registry, times: int) -> dict[str, float]:
    """Median milliseconds of each thing that a message has the stores do.

    Args:
        ledger: Empty.
        registry: Empty.
        times: How often each is done.
    """
    model = registry.publish(SCHEMA, b"h0", b"c", {})
    hello = Hello("0.1.0", "ai-edge-litert 2.1", "Raspberry Pi 5", (model.recommender.sha256,))
    record = {"outcome": {"gate": "kept", "samples_local": 40}, "phases": [{"name": "train", "elapsed_s": 1.5}] * 8}
    does: dict[str, Callable[[int], object]] = {
        "a presence is noted (1 write)": lambda _n: ledger.note_presence("dev", online=True),
        "a hello is noted (1 write)": lambda _n: ledger.note_hello("dev", hello),
        "a report is kept (1 write)": lambda n: ledger.add_report("dev", Report(f"r{n}", 1, record), f"m{n}"),
        "the live model is looked up (reads)": lambda _n: registry.latest(),
        "a chunk of a published blob is read": lambda _n: registry.blobs.chunk(model.recommender.sha256, 0),
    }
    return {name: _median_ms(do, times) for name, do in does.items()}


def _median_ms(do: Callable[[int], object], times: int) -> float:
    spent_s = np.zeros(times)
    for number in range(-_WARM, times):
        begun_s = time.perf_counter()
        do(number)
        if number >= 0:
            spent_s[number] = time.perf_counter() - begun_s
    return float(np.median(spent_s) * 1e3)


def _of(where: Any, times: int) -> dict[str, float]:
    with closing(Ledger(where)) as ledger, closing(Registry(where)) as registry:
        return costs_ms(ledger, registry, times)


def main() -> None:
    """Measure and print."""
    from cloud_broker.storage.place import Place, StorageOptions
    from tests.postgres import PostgresMissingError, postgres_server

    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage")
    parser.add_argument("--times", type=int, default=1000, help="how often each is done")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": _of(Path(folder) / "sqlite", times)}
        try:
            with postgres_server() as server:
                options = StorageOptions(database_url=server.create("cloud"))
                found["PostgreSQL"] = _of(Place(Path(folder) / "postgresql", options), times)
        except PostgresMissingError as error:
            print(error)
    print(f"{'median ms of ' + str(times):44}" + "".join(f"{name:>12}" for name in found))
    for what in found["SQLite"]:
        print(f"{what:44}" + "".join(f"{costs[what]:12.3f}" for costs in found.values()))


if __name__ == "__main__":
    main()
