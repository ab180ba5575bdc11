"""Events on their way to samples, on disk: exposures, the user's histories, and events that wait for a schema.

An event and the samples it gives are on disk together or not at all, and an event that comes again under its name
changes nothing, so an app may send again what it does not know to have arrived.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from edge.errors import BadRequestError, DiskError
from edge.feedback.events import MAX_TIME_S, Event, EventKind, parse_event
from edge.feedback.histories import LIKED, SKIPPED, Featuriser, Histories
from edge.feedback.labelling import POSITIVE, EventRules, Exposure, judge, keeps
from edge.storage.counters import Counters
from edge.storage.database import Database
from edge.storage.sample_store import SampleStore
from protocol.samples import SampleBatch, concatenate
from protocol.schema import FeatureSchema

MAX_EXPOSURES_KEPT = 20_000  # items; those that were not heard of for longest are forgotten
MAX_EVENT_IDS_KEPT = 50_000
MAX_WAITING = 100_000  # events; the oldest give way

_FORGET_EVERY_S = 3600.0
_TAKEN, _GAVE_WAY = "events-taken", "waiting-events-given-way"
_KEEP_NEWEST = "DELETE FROM {0} WHERE number <= (SELECT max(number) FROM {0}) - ?"


@dataclass(frozen=True)
class Taken:
    """What became of events.

    Attributes:
        events: How many are on disk now that were not before.
        refused: How many do not fit the schema.
        reason: Why the first of these does not.
        samples: The samples that they gave; None where there were none.
    """

    events: int
    refused: int = 0
    reason: str = ""
    samples: SampleBatch | None = None


class EventStore:
    """Takes events.

    Args:
        database: The device's.
        samples: Where the samples go.
        now: The time by which samples age, in seconds since 1970.
    """

    def __init__(self, database: Database, samples: SampleStore, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._samples = samples
        self._now = now
        self._counters = Counters(database)
        self._due_s = 0.0
        self.histories = Histories(database)

    def add(self, events: Sequence[Event], schema: FeatureSchema | None, rules: EventRules) -> Taken:
        """Take events, in their order; on disk when this returns.

        Args:
            events: Those of an event id that was taken before are passed over.
            schema: The features that samples have; where it is not known yet, the events wait for it.
            rules: What makes a sample.

        Raises:
            StoreError: If the disk is full or fails; none is taken then.
        """
        with self.histories.changing(), self._database.transaction():
            fresh = self._fresh(events)
            self._counters.add(_TAKEN, len(fresh))
            if schema is None:
                self._wait(fresh)
                return Taken(len(fresh))
            return self._label(fresh, schema, rules)

    def label_waiting(self, schema: FeatureSchema, rules: EventRules) -> Taken:
        """Take the events that waited for a schema."""
        with self.histories.changing(), self._database.transaction() as rows:
            found = self._database.rows("SELECT event FROM waiting_events ORDER BY number")
            rows.execute("DELETE FROM waiting_events")
            return self._label([parse_event(json.loads(text), MAX_TIME_S) for (text,) in found], schema, rules)

    def forget_old_if_due(self, rules: EventRules) -> None:
        """Forget the samples that the rules retire, now and then; on a disk that takes nothing, at the next time."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _FORGET_EVERY_S
            with suppress(DiskError):
                self._retain(rules)

    @property
    def waiting(self) -> int:
        """Events that wait for a schema."""
        return int(self._database.rows("SELECT count(*) FROM waiting_events")[0][0])

    @property
    def taken(self) -> int:
        """Events ever taken since the user was last forgotten, those that did not fit the features included."""
        return self._counters.value(_TAKEN)

    @property
    def given_way(self) -> int:
        """Of these, those that waited for a schema and gave way to newer ones."""
        return self._counters.value(_GAVE_WAY)

    def _fresh(self, events: Sequence[Event]) -> list[Event]:
        """Those not taken before, of which note is made."""
        fresh = []
        with self._database.transaction() as rows:
            for event in events:
                noted = event.event_id is None or (
                    rows.execute("INSERT OR IGNORE INTO event_ids (event_id) VALUES (?)", (event.event_id,)).rowcount
                )
                if noted:
                    fresh.append(event)
            rows.execute(_KEEP_NEWEST.format("event_ids"), (MAX_EVENT_IDS_KEPT,))
        return fresh

    def _wait(self, events: Sequence[Event]) -> None:
        with self._database.transaction() as rows:
            rows.executemany(
                "INSERT INTO waiting_events (event) VALUES (?)",
                [(json.dumps(event.to_dict(), separators=(",", ":")),) for event in events],
            )
            given_way = rows.execute(_KEEP_NEWEST.format("waiting_events"), (MAX_WAITING,)).rowcount
            self._counters.add(_GAVE_WAY, given_way)

    def _label(self, events: Sequence[Event], schema: FeatureSchema, rules: EventRules) -> Taken:
        made, reasons = [], []
        featuriser = Featuriser(schema, rules, self.histories)
        for event in events:
            try:
                sample = self._take(event, featuriser)
            except BadRequestError as error:
                reasons.append(str(error))
                continue
            if sample is not None:
                made.append(sample)
        self._forget_old_exposures()
        batch = concatenate(made) if made else None
        if batch is not None:
            self._samples.add(batch)
            self._retain(rules)
        return Taken(len(events) - len(reasons), len(reasons), reasons[0] if reasons else "", batch)

    def _retain(self, rules: EventRules) -> None:
        self._samples.retain(self._now() - rules.keep_days * 86400, rules.keep_bytes)

    def _take(self, event: Event, featuriser: Featuriser) -> SampleBatch | None:
        """Note one event, and give the sample that it makes, if it makes one that is kept."""
        rules, before = featuriser.rules, self._exposure(event.item)
        try:
            after, label, sample = _judged(event, before, featuriser)
        except BadRequestError:
            # What is remembered of the item may be of another task's features; the event's own are to fit.
            after, label, sample = _judged(event, replace(before, features={}), featuriser)
        self._put_exposure(event, after)
        if label == POSITIVE:
            self.histories.append(LIKED, event.item)
        elif label is not None and event.kind is EventKind.SKIP:
            self.histories.append(SKIPPED, event.item)
        return sample if label is not None and keeps(event, label, rules) else None

    def _exposure(self, item: int) -> Exposure:
        found = self._database.rows("SELECT impressions, label, features FROM exposures WHERE item = ?", item)
        if not found:
            return Exposure()
        impressions, label, features = found[0]
        return Exposure(impressions, label, json.loads(features))

    def _put_exposure(self, event: Event, exposure: Exposure) -> None:
        features: dict[str, Any] = dict(exposure.features)
        with self._database.transaction() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO exposures (item, impressions, label, features) VALUES (?, ?, ?, ?)",
                (event.item, exposure.impressions, exposure.label, json.dumps(features, separators=(",", ":"))),
            )

    def _forget_old_exposures(self) -> None:
        with self._database.transaction() as rows:
            rows.execute(
                "DELETE FROM exposures WHERE number <= (SELECT number FROM exposures ORDER BY number DESC"
                " LIMIT 1 OFFSET ?)",
                (MAX_EXPOSURES_KEPT,),
            )


def _judged(event: Event, before: Exposure, featuriser: Featuriser) -> tuple[Exposure, float | None, SampleBatch]:
    """The item's exposure after an event, the label that it gives, if any, and the sample as it would be now."""
    after, label = judge(event, before, featuriser.rules)
    # Also where there is no label: whether an event fits is told to the app that sends it, not to a later one.
    return after, label, featuriser.sample(event.item, after.features, label or 0.0, event.time_s)
