"""An app that tells events until each is acknowledged, and keeps the books of what they must have become."""

from __future__ import annotations

import http.client
import random
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.endurance.clock import SharedClock
from edge.client import ApiError, Client
from edge.feedback.events import MAX_TIME_S, Event, parse_event
from edge.feedback.labelling import EventRules, Exposure, judge, keeps
from edge.storage.store import Store
from protocol.schema import FeatureSchema

BATCH = 100  # events of one request
_KINDS = ("impression", "click", "skip", "dwell")
_SHARES = (60, 15, 15, 10)

NOT_NOW = (OSError, http.client.HTTPException, ApiError)  # the device is away, or says no; the app tries again


@dataclass
class Books:
    """What is on the device, if nothing is lost.

    Attributes:
        events: How many were acknowledged.
        items: Of the samples that they make, in their order.
        labels: The same.
        times_s: The same.
    """

    events: int = 0
    items: array[int] = field(default_factory=lambda: array("i"))
    labels: array[int] = field(default_factory=lambda: array("b"))
    times_s: array[int] = field(default_factory=lambda: array("q"))


class App:
    """One app and its user.

    Args:
        rules: The device's.
        clock: Says when events happen, and goes on with them.
        items: How many there are, 0 included, which is none.
        seed: Of the events.
    """

    def __init__(self, rules: EventRules, clock: SharedClock, items: int, seed: int) -> None:
        self.books = Books()
        self._rules = rules
        self._clock = clock
        self._items = items
        self._random = random.Random(seed)
        self._exposures: dict[int, Exposure] = {}
        self._made = 0
        self._waiting: list[dict[str, Any]] = []

    def tell(self, client: Client, pause_s: float) -> None:
        """Tell `BATCH` events, or those again that the device did not acknowledge; time passes between them.

        Raises:
            One of `NOT_NOW`: If they are still not acknowledged; the next call tells them again.
        """
        if not self._waiting:
            self._waiting = [self._event(pause_s) for _ in range(BATCH)]
        answer = client.tell(self._waiting)
        if answer["refused"]:
            raise AssertionError(f"the device refuses events that fit: {answer}")
        for values in self._waiting:
            self._note(parse_event(values, MAX_TIME_S))
        self._waiting = []

    def _event(self, pause_s: float) -> dict[str, Any]:
        draw = self._random
        self._clock.advance(draw.uniform(0.0, 2 * pause_s))
        kind = draw.choices(_KINDS, _SHARES)[0]
        values: dict[str, Any] = {"kind": kind, "item": draw.randrange(1, self._items)}
        if kind == "dwell":
            values["dwell_s"] = draw.uniform(0.0, 60.0)
        if kind == "impression":
            values["features"] = {"genres": [draw.randrange(1, 8)]}
        self._made += 1
        return {**values, "time_s": int(self._clock.unix_s), "event_id": f"event-{self._made}"}

    def _note(self, event: Event) -> None:
        """What the labelling rules, which are pure, make of an event that was acknowledged."""
        books = self.books
        books.events += 1
        after, label = judge(event, self._exposures.get(event.item, Exposure()), self._rules)
        self._exposures[event.item] = after
        if label is not None and keeps(event, label, self._rules):
            books.items.append(event.item)
            books.labels.append(int(label))
            books.times_s.append(event.time_s)


@dataclass(frozen=True)
class Audit:
    """The books against the device's disk. The first four tell how large the run was; the others are to be 0.

    Attributes:
        events: Acknowledged.
        samples: That these make.
        kept: Of these, on the device at the end.
        retired: Of these, retired by the owner's bounds, as the device counted them: by age, size and number.
        events_uncounted: Acknowledged and not counted by the device as taken, or counted twice.
        samples_astray: On the device and not what the newest events made, in their order.
        samples_unaccounted: Neither on the device nor counted as retired, or both.
    """

    events: int
    samples: int
    kept: int
    retired: dict[str, int]
    events_uncounted: int
    samples_astray: int
    samples_unaccounted: int

    @property
    def exact(self) -> bool:
        """Whether every event and sample is accounted for."""
        return not (self.events_uncounted or self.samples_astray or self.samples_unaccounted)


def audit(books: Books, store: Store, schema: FeatureSchema) -> Audit:
    """Compare; the device must not run."""
    found, account = store.samples.all(schema), store.samples.account
    newest = slice(len(books.items) - len(found), None)
    pairs: tuple[tuple[NDArray[Any], array[int]], ...] = (
        (found.features["item"].ravel(), books.items), (found.label, books.labels), (found.time_s, books.times_s),
    )  # fmt: skip
    wrong = np.zeros(len(found), np.bool_)
    for on_disk, expected in pairs:
        wrong |= on_disk != np.array(expected[newest])
    retired = {"age": account.age, "size": account.size, "number": account.number}
    return Audit(
        events=books.events,
        samples=len(books.items),
        kept=len(found),
        retired=retired,
        events_uncounted=abs(store.events.taken - books.events),
        samples_astray=int(wrong.sum()),
        samples_unaccounted=abs(len(books.items) - len(found) - sum(retired.values()))
        + abs(account.made - len(books.items)),
    )
