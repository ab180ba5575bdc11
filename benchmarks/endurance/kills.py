"""The device killed at random moments while an app tells events and rounds go on; and what was lost: nothing."""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.endurance.app import NOT_NOW, App, audit
from benchmarks.endurance.lane import ROUND_S, Lane
from benchmarks.kills.rounds import MAX_DEVICE_KILLS
from edge.client import Client
from edge.errors import EdgeError
from edge.storage.store import Store
from tests.edge.samples import ITEMS, SCHEMA

RECIPE = {"steps": 2000, "learning_rate": 0.1, "classifier_steps": 1000, "match_samples": 300}  # long enough to be hit
KEEP_DAYS, KEEP_BYTES = 30.0, 256 << 10
PAUSE_S = 30.0
_MOST_S = 1.2  # from the first answer, or from the start, to the kill
_AT_START = 0.25  # of the kills hit a device that has not answered yet


@dataclass
class Tally:
    """What kills came to. Those after ``samples`` are to be 0.

    Attributes:
        kills: Kills.
        at_start: Of these, before the device answered for the first time.
        in_round: Of these, while a round stood unfinished.
        answered: Starts after a kill that were waited for until they ranked.
        slowest_s: How long the slowest of them took to rank.
        rounds: Asked for.
        events: Acknowledged.
        samples: That these make.
        unknown_models: Rankings by a model that no round made.
        lost: Events or samples that are not accounted for.
        unreported: Rounds of which the cloud has no report, or more than one.
        given_up: Rounds that ended without a model.
        strangers: Rounds that the device was in and the cloud has no report of, such as one begun anew after a kill.
    """

    kills: int = 0
    at_start: int = 0
    in_round: int = 0
    answered: int = 0
    slowest_s: float = 0.0
    rounds: int = 0
    events: int = 0
    samples: int = 0
    unknown_models: int = 0
    lost: int = 0
    unreported: int = 0
    given_up: int = 0
    strangers: int = 0

    def __add__(self, other: Tally) -> Tally:
        both = Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
        both.slowest_s = max(self.slowest_s, other.slowest_s)
        return both

    @property
    def clean(self) -> bool:
        """Whether nothing was lost and everything went on."""
        return not any((self.unknown_models, self.lost, self.unreported, self.given_up, self.strangers))


@dataclass
class _Seen:
    """What the device said on the way.

    Attributes:
        models: Versions that ranked.
        rounds: Ids of unfinished rounds, by the task that was the newest.
    """

    models: set[str] = field(default_factory=set)
    rounds: dict[int, set[str]] = field(default_factory=dict)


class Killing:
    """Kills one device.

    Args:
        folder: Holds ``cloud``, filled.
        seed: Of the moments and of the events.
        recipe: What rounds do.
    """

    def __init__(self, folder: Path, seed: int, recipe: dict[str, Any] | None = None) -> None:
        self._lane = Lane(folder, recipe or RECIPE, KEEP_DAYS, KEEP_BYTES)
        self._random = random.Random(seed)
        self._app = App(self._lane.config.events, self._lane.clock, ITEMS, seed)
        self._client = Client(str(self._lane.socket), 30.0)
        self._seen = _Seen()
        self._tally = Tally()
        self._version = 0

    def run(self, points: int) -> Tally:
        """Kill so often, and not more in one round than may be: see `MAX_DEVICE_KILLS`."""
        with self._lane.fleet:
            process = self._first_round()
            while self._tally.kills < points:
                self._version = self._lane.ask_for_round()
                enough = min(self._tally.kills + MAX_DEVICE_KILLS, points)
                while self._tally.kills < enough:
                    process = self._kill(process, once=enough - self._tally.kills == 1)
                self._until_reported()
            self._client.close()
            process.terminate()
            process.wait(ROUND_S)
        return self._count()

    def _first_round(self) -> subprocess.Popen[bytes]:
        """Brings the first model."""
        self._version = self._lane.ask_for_round()
        process = self._lane.start()
        self._seen.models.add(self._lane.await_ranking(self._client)["model"])
        self._until_reported()
        return process

    def _until_reported(self) -> None:
        """Tell events until the round is over; one that does not end shows in the count."""
        deadline_s = time.monotonic() + ROUND_S
        while self._version not in self._lane.reports() and time.monotonic() < deadline_s:
            self._tell_for(0.1)

    def _kill(self, process: subprocess.Popen[bytes], *, once: bool) -> subprocess.Popen[bytes]:
        """Kill a device, unless ``once`` perhaps also the one started in its place; the last one has ranked."""
        self._tell_for(self._random.uniform(0.0, _MOST_S))
        process.kill()
        process.wait()
        self._client.close()
        self._tally.kills += 1
        self._tally.in_round += self._version not in self._lane.reports()
        if not once and self._random.random() < _AT_START:
            process = self._lane.start()
            time.sleep(self._random.uniform(0.0, _MOST_S))  # the moment of the kill is what is drawn here
            process.kill()
            process.wait()
            self._tally.kills += 1
            self._tally.at_start += 1
        begin_s, process = time.monotonic(), self._lane.start()
        self._seen.models.add(self._lane.await_ranking(self._client)["model"])
        self._tally.answered += 1
        self._tally.slowest_s = max(self._tally.slowest_s, time.monotonic() - begin_s)
        return process

    def _tell_for(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            try:
                self._app.tell(self._client, PAUSE_S)
                self._look()
            except NOT_NOW:
                self._client.close()
                time.sleep(0.02)  # as an app does whose device is away

    def _look(self) -> None:
        going_on = self._client.status()["round"]
        if going_on is not None:
            self._seen.rounds.setdefault(self._version, set()).add(going_on["round_id"])
        self._seen.models.add(self._client.rank([1, 2, 3])["model"])

    def _count(self) -> Tally:
        tally, reports, books = self._tally, self._lane.reports(), self._app.books
        records = [record for each in reports.values() for record in each]
        ids = {record["round_id"] for record in records}
        tally.rounds, tally.events, tally.samples = self._lane.tasks, books.events, len(books.items)
        tally.unreported = abs(self._lane.tasks - len(records))
        tally.given_up = sum(record["outcome"]["decision"] not in ("activated", "kept-h0") for record in records[1:])
        tally.strangers = len({one for each in self._seen.rounds.values() for one in each} - ids)
        try:
            with Store(self._lane.config.state_dir, self._lane.clock.reading) as store:
                found = audit(books, store, SCHEMA)
                serving = store.rounds.serving()
        except EdgeError as error:
            raise AssertionError(f"the store does not open after {tally.kills} kills: {error}") from error
        assert serving is not None
        h0 = serving.model_sha256[:12]
        tally.unknown_models = len(self._seen.models - {h0} - {f"{h0}-{one[:12]}" for one in ids})
        tally.lost = found.events_uncounted + found.samples_astray + found.samples_unaccounted
        return tally
