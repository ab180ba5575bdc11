"""Many events and rounds on a clock that runs ahead, with the device's memory and disk looked at on the way."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.endurance.app import BATCH, App, Audit, audit
from benchmarks.endurance.lane import Lane
from edge.client import Client
from edge.storage.store import Store
from tests.edge.samples import ITEMS, SCHEMA

RECIPE = {"steps": 60, "learning_rate": 0.2, "classifier_steps": 60, "match_samples": 300}
KEEP_DAYS, KEEP_BYTES = 30.0, 256 << 10
CALM_S, BUSY_S = 40.0, 4.0  # between two events
_SEASONS = 6  # of which every second one is busy
_LOOKS = 200
MOST_RSS_BYTES = 120_000_000
MOST_GROWTH = 1.1  # of the last third's peak over the second third's


@dataclass(frozen=True)
class Look:
    """The device at one moment.

    Attributes:
        events: So far.
        rounds: Begun so far.
        days: On its clock, since the run began.
        rss_bytes: Resident memory of its process.
        disk_bytes: Of all files in its folder.
    """

    events: int
    rounds: int
    days: float
    rss_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class Marathon:
    """What a run came to.

    Attributes:
        looks: Memory and disk on the way.
        audit: The books against the disk.
        rounds: Reports that the cloud has.
        abandoned: Of these, of rounds that were given up.
        repeated: Reports beyond one a task.
        round_peak_bytes: Largest resident memory within any phase of a round, as the rounds' records say; None where
            the kernel does not tell.
        elapsed_s: Of the run.
    """

    looks: list[Look]
    audit: Audit
    rounds: int
    abandoned: int
    repeated: int
    round_peak_bytes: int | None
    elapsed_s: float

    def growth(self, name: str) -> float:
        """The peak of the last third over that of the second."""
        values, third = [getattr(look, name) for look in self.looks], len(self.looks) // 3
        peak: float = max(values[-third:]) / max(values[third:-third])
        return peak

    def peak(self, name: str) -> int:
        """The largest value of all looks."""
        largest: int = max(getattr(look, name) for look in self.looks)
        return largest

    def faults(self, rounds: int) -> list[str]:
        """What does not hold, in words."""
        checks = {
            f"{rounds} rounds reported once, none given up": (self.rounds, self.abandoned, self.repeated)
            == (rounds, 0, 0),
            "every event and sample accounted for": self.audit.exact,
            "memory bounded": max(self.peak("rss_bytes"), self.round_peak_bytes or 0) <= MOST_RSS_BYTES
            and self.growth("rss_bytes") <= MOST_GROWTH,
            "disk bounded": self.growth("disk_bytes") <= MOST_GROWTH,
        }
        return [name for name, holds in checks.items() if not holds]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(folder: Path, events: int, rounds: int, seed: int = 1) -> Marathon:
    """Tell events, and ask for rounds at even distances while more are told.

    Args:
        folder: Holds ``cloud``, filled.
        events: How many, a multiple of `BATCH` times ``rounds``.
        rounds: How many.
        seed: Of the events.
    """
    begin_s, lane = time.monotonic(), Lane(folder, RECIPE, KEEP_DAYS, KEEP_BYTES)
    app = App(lane.config.events, lane.clock, ITEMS, seed)
    began_unix_s, looks, version = lane.clock.unix_s, list[Look](), 0
    every, look_every = events // rounds, max(BATCH, events // _LOOKS // BATCH * BATCH)
    with lane.fleet, lane.running() as process, Client(str(lane.socket), 60.0) as client:
        lane.ask_for_round()
        lane.await_ranking(client)
        device = psutil.Process(process.pid)
        while app.books.events < events:
            if app.books.events >= every * lane.tasks:
                lane.await_report(lane.tasks)
                version = lane.ask_for_round()
            busy = app.books.events * _SEASONS // events % 2 == 1
            app.tell(client, BUSY_S if busy else CALM_S)
            if app.books.events % look_every == 0:
                days = (lane.clock.unix_s - began_unix_s) / 86400
                rss = device.memory_info().rss
                looks.append(Look(app.books.events, lane.tasks, days, rss, _size(lane.config.state_dir)))
        lane.await_report(max(version, 1))
    reports = lane.reports()
    phases = [phase for each in reports.values() for record in each for phase in record["phases"]]
    with Store(lane.config.state_dir, lane.clock.reading) as store:
        found = audit(app.books, store, SCHEMA)
    return Marathon(
        looks,
        found,
        rounds=len(reports),
        abandoned=sum(record["outcome"]["decision"] == "abandoned" for each in reports.values() for record in each),
        repeated=sum(len(each) - 1 for each in reports.values()),
        round_peak_bytes=max((p["peak_rss_bytes"] for p in phases if p["peak_rss_bytes"] is not None), default=None),
        elapsed_s=time.monotonic() - begin_s,
    )


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # deleted meanwhile
            continue
    return total
