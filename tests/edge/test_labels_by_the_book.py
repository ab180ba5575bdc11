"""Whatever an app tells gives the samples that `docs/serving.md` says, worked out here by another program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.feedback.events import parse_events
from edge.feedback.labelling import EventRules
from edge.storage.store import Store
from protocol.samples import SampleBatch
from tests.edge.samples import ITEMS, SCHEMA

Told = dict[str, Any]
_NO_FIT = ({"colour": 1}, {"genres": [9]}, {"genres": [1.5]}, {"genres": [1, 2, 3, 4]}, {"genres": 3})
_FITS: tuple[Told, ...] = ({"genres": []}, {"genres": [3]}, {"genres": [1, 7]}, {"liked": [5, 6]})


@st.composite
def told(draw: st.DrawFn) -> Told:
    """An event: few items, so that they meet; names that come again; features that fit, and others."""
    kind = draw(st.sampled_from(["impression", "impression", "click", "skip", "dwell"]))
    event: Told = {"kind": kind, "item": draw(st.sampled_from([1, 1, 2, ITEMS - 1, ITEMS]))}
    if kind == "dwell":
        event["dwell_s"] = draw(st.sampled_from([0, 29.9, 30]))
    for name, values in (("event_id", "abcdef"), ("time_s", (0, 5, 1))):
        if draw(st.integers(0, 3)) == 0:
            event[name] = draw(st.sampled_from(values))
    if features := draw(st.sampled_from([{}, {}, *_FITS, draw(st.sampled_from(_NO_FIT))])):
        event["features"] = features
    return event


@dataclass
class Book:
    """The rules, in the words of the page: an item's impressions since its last label are one exposure."""

    rules: EventRules
    names: set[str] = field(default_factory=set)
    exposures: dict[int, tuple[int, frozenset[int], Mapping[str, Any]]] = field(default_factory=dict)
    liked: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    samples: list[tuple[Any, ...]] = field(default_factory=list)

    def hear(self, event: Told, now_s: int) -> None:
        """Note an event, and the sample that it gives."""
        if (name := event.get("event_id")) is not None:
            if name in self.names:
                return
            self.names.add(name)
        item, kind = event["item"], event["kind"]
        shown, labels, features = self.exposures.get(item, (0, frozenset(), {}))
        if kind == "impression" and labels:
            shown, labels, features = 0, frozenset(), {}
        if item == ITEMS or event.get("features") in _NO_FIT:
            return
        features = {**features, **event.get("features", {})}
        shown += kind == "impression"
        label = self._label(event, shown, labels)
        if label is not None:
            self._note(event, label, features, now_s)
            shown, labels = 0, labels | {label}
        self.exposures[item] = (shown, labels, features)

    def _label(self, event: Told, shown: int, labels: frozenset[int]) -> int | None:
        if event["kind"] == "click" or event.get("dwell_s", 0) >= 30:
            return None if 1 in labels else 1
        if event["kind"] == "skip":
            return None if labels else 0
        return 0 if event["kind"] == "impression" and shown == self.rules.exposures_for_negative else None

    def _note(self, event: Told, label: int, features: Mapping[str, Any], now_s: int) -> None:
        item, genres = event["item"], features.get("genres", [])
        liked = _last(features.get("liked", self.liked))
        time_s = min(event.get("time_s", now_s), now_s)
        self.samples.append((item, label, time_s, [*genres, 0, 0, 0][:3], liked, _last(self.skipped)))
        if label:
            self.liked.append(item)
        elif event["kind"] == "skip":
            self.skipped.append(item)


def _last(items: list[int]) -> list[int]:
    return [0, 0, 0, 0, 0, *items][-5:]


def _rows(samples: SampleBatch) -> list[tuple[Any, ...]]:
    columns = [samples.features["item"], samples.label, samples.time_s]
    columns += [samples.features[name] for name in ("genres", "liked", "disliked")]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(told(), max_size=25), max_size=5), st.integers(0, 5), st.integers(0, 5), st.integers(1, 4))
def test_samples_are_those_of_the_book(requests: list[list[Told]], wait: int, again: int, most: int) -> None:
    """In their order, nothing lost or counted twice: events that wait, come again, do not fit, or outlive a restart."""
    rules = EventRules(exposures_for_negative=most, keep_days=36500)
    book = Book(rules)
    with TemporaryDirectory() as folder:
        for number, events in enumerate(requests):
            now_s = 3 + number
            with Store(Path(folder)) as store:
                if number >= wait:
                    store.events.label_waiting(SCHEMA, rules)
                for _ in range(2 if number == again else 1):
                    store.events.add(parse_events(events, now_s), SCHEMA if number >= wait else None, rules)
                    for event in events:
                        book.hear(event, now_s)
        with Store(Path(folder)) as store:
            store.events.label_waiting(SCHEMA, rules)
            assert _rows(store.samples.all(SCHEMA)) == book.samples
            assert store.samples.account.made == len(book.samples)
