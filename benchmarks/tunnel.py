"""What the tunnel does on lines good and bad: python -m benchmarks.tunnel. Lines are emulated by `benchmarks.chaos`."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chaos import ChaosProxy, Weather
from benchmarks.kills.fleet import Fleet, fill_cloud
from benchmarks.kills.rounds import RECIPE
from benchmarks.kills.transfers import publish_blob
from edge.config import load_config
from edge.storage.store import Store
from edge.tunnel.answers import Incoming
from edge.tunnel.fetch import fetch_blob, fetch_published
from edge.tunnel.link import Link
from edge.tunnel.session import Session
from protocol.envelope import encode
from protocol.messages import Accepted, BlobRef, Message, Pull, Refusal, Report
from tests.edge.samples import samples

BLOB_BYTES = 5_000_000
GOOD = Weather(0.025, 10e6 / 8)
BAD = Weather(0.2, 250e3 / 8, 0.02)
UPLOADS, UPLOAD_BYTES = 300, 30_000
DEVICES = 100
_NO_BLOB = "0" * 64


@dataclass(frozen=True)
class Row:
    """One measurement, and what it is to be at most."""

    what: str
    measured: float
    goal: float | None
    unit: str


class NotingSession(Session):
    """Keeps when refusals arrived: they answer the small requests that are made beside a transfer."""

    arrived_s: dict[str, float]

    def hear(self, timeout_s: float, connection: int | None = None) -> Incoming | None:
        """Hear, and note."""
        incoming = super().hear(timeout_s, connection)
        if incoming is not None and isinstance(incoming.message, Refusal):
            self.arrived_s[incoming.message.message_id] = incoming.delivery.arrived_s
        return incoming


@contextmanager
def session_of(config: Path, **changes: Any) -> Iterator[NotingSession]:
    """A device in this process, connected."""
    loaded = load_config(config)
    with Store(loaded.state_dir) as store, Link(type(loaded)(**{**vars(loaded), **changes})) as link:
        session = NotingSession(link, store, lambda _event: None, loaded.timeout_s)
        session.arrived_s = {}
        session.connect()
        yield session


def line(fleet: Fleet, ref: BlobRef, published: bool) -> list[Row]:
    """5 MB over 10 Mbit/s and 50 ms there and back, with a small request on the same connection every 100 ms."""
    name = "shared" if published else "pulled"
    with (
        ChaosProxy(fleet.broker.config.connect_host, fleet.broker.config.port, GOOD) as proxy,
        session_of(fleet.device(f"line-{name}"), host="127.0.0.1", port=proxy.port) as session,
    ):
        asked_s: dict[str, float] = {}
        done = threading.Event()
        asking = threading.Thread(target=_ask_often, args=[session.link, asked_s, done])
        asking.start()
        began_s = time.monotonic()
        (fetch_published if published else fetch_blob)(session, session._store, ref)
        elapsed_s = time.monotonic() - began_s
        done.set()
        asking.join()
    waits_ms = [1e3 * (session.arrived_s[name] - at_s) for name, at_s in asked_s.items() if name in session.arrived_s]
    assert GOOD.bytes_per_s is not None
    line_s = ref.size_bytes / GOOD.bytes_per_s
    return [
        Row(f"5 MB, {name}: times line time ({line_s:.2f} s)", elapsed_s / line_s, 1.05, ""),
        Row(f"small request meanwhile, p50 of {len(waits_ms)}", median(waits_ms), 80, "ms"),
    ]


def _ask_often(link: Link, asked_s: dict[str, float], done: threading.Event) -> None:
    while not done.wait(0.1):
        name = uuid.uuid4().hex
        payload = encode(Pull(_NO_BLOB, (0,)), name)
        asked_s[name] = time.monotonic()
        link.send(Pull.kind, payload, 30.0)


def bad_line(fleet: Fleet) -> list[Row]:
    """A whole round over 250 kbit/s, 400 ms there and back and 2% of segments lost."""
    with ChaosProxy(fleet.broker.config.connect_host, fleet.broker.config.port, BAD) as proxy:
        config = fleet.device("bad-line", host="127.0.0.1", port=proxy.port)
        with Store(load_config(config).state_dir) as store:
            store.samples.add(samples(100))
        began_s = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "edge", "--config", str(config), "--once", "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=900,
        )
        elapsed_s = time.monotonic() - began_s
        up, down = proxy.carried_bytes
    return [
        Row("250 kbit/s, 400 ms, 2% loss: a whole round", elapsed_s, None, "s"),
        Row("  TCP payload up and down", (up + down) / 1e3, None, "kB"),
    ]


def uploads(fleet: Fleet) -> list[Row]:
    """A report of 30 kB until the cloud says that it is on disk, on loopback."""
    noise = random.Random(1)
    elapsed_ms = []
    with session_of(fleet.device("uploads")) as session:
        for number in range(UPLOADS):
            record = {"noise": noise.randbytes(UPLOAD_BYTES // 2).hex()}
            message = Report(f"round-{number}", 1, record)
            began_s = time.perf_counter()
            with session.ask(message, _is_accepted):
                elapsed_ms.append(1e3 * (time.perf_counter() - began_s))
    return [
        Row("30 kB stored and acknowledged, loopback, p50", median(elapsed_ms), 5, "ms"),
        Row(f"  p99 of {UPLOADS}", quantiles(elapsed_ms, n=100)[98], 25, "ms"),
    ]


def _is_accepted(message: Message) -> bool:
    return isinstance(message, Accepted)


def fan_out(fleet: Fleet, ref: BlobRef, devices: int) -> list[Row]:
    """One 5 MB model to many devices: what leaves the cloud, TLS included."""
    fleet.kill_cloud()
    with ChaosProxy(fleet.broker.config.connect_host, fleet.broker.config.port) as proxy:
        fleet.cloud_at("127.0.0.1", proxy.port)
        fleet.start_cloud()
        before = proxy.carried_bytes[0]

        def one(number: int) -> None:
            with session_of(fleet.device(f"many-{number}")) as session:
                path = fetch_published(session, session._store, ref)
                path.unlink()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(devices)))
        left_bytes = proxy.carried_bytes[0] - before
        fleet.kill_cloud()
    return [Row(f"bytes leaving the cloud for {devices} devices, times 5 MB", left_bytes / ref.size_bytes, 1.2, "")]


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnel")
    parser.add_argument("--devices", type=int, default=DEVICES, help="in the fan-out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as parts:
        base = Path(scratch)
        fill_cloud(base / "cloud")
        ref, other = publish_blob(base / "cloud", BLOB_BYTES), publish_blob(base / "cloud", BLOB_BYTES - 1)
        fleet = parts.enter_context(Fleet(base, RECIPE))
        rows = [*uploads(fleet), *line(fleet, ref, False), *line(fleet, ref, True), *bad_line(fleet)]
        rows += fan_out(fleet, other, asked.devices)
    table = Table("", "measured", "goal", "", title="The tunnel; lines are emulated")
    for row in rows:
        verdict = "" if row.goal is None else "✓" if row.measured <= row.goal else "✗"
        goal = "" if row.goal is None else f"{row.goal:g} {row.unit}"
        table.add_row(row.what, f"{row.measured:.2f} {row.unit}", goal, verdict)
    Console(width=120, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
