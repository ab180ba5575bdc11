"""From an app's events to samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadRequestError, ConfigError
from edge.feedback.events import MAX_EVENTS, MAX_TIME_S, Event, EventKind, parse_event, parse_events
from edge.feedback.histories import LIKED, SKIPPED
from edge.feedback.labelling import EventRules, Exposure, judge, keeps
from edge.feedback.prior import corrected
from edge.feedback.values import column_of
from edge.scheduling.known_time import Reading
from edge.storage import event_store
from edge.storage.event_store import Taken
from edge.storage.store import Store
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.edge.samples import ITEMS, SCHEMA

RULES = EventRules(keep_days=36500)
SHOWN, CLICK, SKIP, DWELL = EventKind.IMPRESSION, EventKind.CLICK, EventKind.SKIP, EventKind.DWELL


def _event(kind: EventKind, item: int = 2, time_s: int = 100, **rest: Any) -> Event:
    return Event(kind, item, time_s, **rest)


def _labels(kinds: list[EventKind | float], rules: EventRules = RULES) -> list[float | None]:
    """The label after each event of one item; a number is a dwell of so many seconds."""
    exposure, labels = Exposure(), []
    for kind in kinds:
        event = _event(kind) if isinstance(kind, EventKind) else _event(DWELL, dwell_s=kind)
        exposure, label = judge(event, exposure, rules)
        labels.append(label)
    return labels


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        ([SHOWN, CLICK], [None, 1.0]),
        ([SHOWN, CLICK, CLICK, 60.0], [None, 1.0, None, None]),
        ([SHOWN, 29.0, 30.0], [None, None, 1.0]),
        ([SHOWN, SHOWN, SHOWN, SHOWN], [None, None, 0.0, None]),
        ([SHOWN, SHOWN, SHOWN, CLICK], [None, None, 0.0, 1.0]),
        ([SHOWN, SKIP, SKIP], [None, 0.0, None]),
        ([SHOWN, SKIP, CLICK], [None, 0.0, 1.0]),
        ([SHOWN, CLICK, SKIP], [None, 1.0, None]),
        ([SHOWN, CLICK, SHOWN, CLICK], [None, 1.0, None, 1.0]),
    ],
)
def test_what_makes_a_sample(kinds: list[EventKind | float], labels: list[float | None]) -> None:
    """A click or a long dwell is a positive, a skip or k impressions without an answer a negative, once each."""
    assert _labels(kinds) == labels


def test_rules_can_be_changed() -> None:
    """A click alone, a dwell or a skip may count for nothing, and more impressions may be asked for."""
    rules = EventRules(
        click_is_positive=False, skip_is_negative=False, dwell_for_positive_s=5, exposures_for_negative=2
    )
    assert _labels([SHOWN, CLICK, SKIP, 4.0, 5.0], rules) == [None, None, None, None, 1.0]
    assert _labels([SHOWN, SHOWN], rules) == [None, 0.0]
    assert _labels([1e4], EventRules(dwell_for_positive_s=None)) == [None]
    with pytest.raises(ConfigError, match="exposures_for_negative"):
        EventRules(exposures_for_negative=0)


@settings(deadline=None)
@given(st.lists(st.sampled_from([SHOWN, CLICK, SKIP, 10.0, 40.0]), max_size=30), st.integers(1, 5))
def test_labels_never_outnumber_what_they_are_of(kinds: list[EventKind | float], most: int) -> None:
    """Between two impressions there is at most one positive and one negative, and k impressions give a negative."""
    labels = _labels(kinds, EventRules(exposures_for_negative=most))
    since: list[float] = []
    for kind, label in zip(kinds, labels, strict=True):
        since = [] if kind is SHOWN else since
        since += [] if label is None else [label]
        assert len(set(since)) == len(since)
    assert labels.count(0.0) >= 0
    if kinds == [SHOWN] * len(kinds):
        assert labels.count(0.0) == len(kinds) // most


def test_samples_have_the_histories_of_their_moment(tmp_path: Path) -> None:
    """What was liked and skipped before an event, and the features that the app told with the impression."""
    events = [
        _event(SHOWN, 2, features={"genres": [3]}),
        _event(CLICK, 2, 101),
        _event(SKIP, 4, 102),
        _event(CLICK, 6, 103, features={"genres": [1, 2]}),
    ]
    with Store(tmp_path) as store:
        taken = store.events.add(events, SCHEMA, RULES)
        kept = store.samples.all(SCHEMA)
        assert (taken.events, taken.refused, store.samples.new) == (4, 0, 3)
    assert kept.label.tolist() == [1.0, 0.0, 1.0]
    assert kept.time_s.tolist() == [101, 102, 103]
    assert kept.features["item"].tolist() == [2, 4, 6]
    assert kept.features["genres"].tolist() == [[3, 0, 0], [0, 0, 0], [1, 2, 0]]
    assert kept.features["liked"].tolist() == [[0] * 5, [0, 0, 0, 0, 2], [0, 0, 0, 0, 2]]
    assert kept.features["disliked"].tolist() == [[0] * 5, [0] * 5, [0, 0, 0, 0, 4]]
    with Store(tmp_path) as store:
        assert store.events.histories.newest(LIKED, 5) == [2, 6]
        assert store.events.histories.newest(SKIPPED, 5) == [4]


def test_events_wait_for_a_schema(tmp_path: Path) -> None:
    """A device that was never given a task keeps what its app tells, and labels it later, in order."""
    with Store(tmp_path) as store:
        store.events.add([_event(CLICK, 2, 5), _event(CLICK, 4, 6)], None, RULES)
        assert (store.events.waiting, store.samples.new) == (2, 0)
    with Store(tmp_path) as store:
        taken = store.events.label_waiting(SCHEMA, RULES)
        assert (taken.events, store.events.waiting) == (2, 0)
        assert store.samples.all(SCHEMA).features["liked"][1].tolist() == [0, 0, 0, 0, 2]


def test_an_event_counts_once(tmp_path: Path) -> None:
    """What an app sends again under the same name changes nothing, also after a restart."""
    events = [_event(CLICK, item, 5, event_id=f"e{item}") for item in (2, 3)]
    for expected in (2, 0):
        with Store(tmp_path) as store:
            assert store.events.add(events, SCHEMA, RULES).events == expected
            assert len(store.samples.all(SCHEMA)) == 2


def test_what_does_not_fit_is_refused_alone(tmp_path: Path) -> None:
    """An unknown item or feature is told, and the events around it are taken."""
    events = [_event(CLICK, 2), _event(CLICK, 10**6), _event(CLICK, 3, features={"colour": 1}), _event(CLICK, 4)]
    with Store(tmp_path) as store:
        taken = store.events.add(events, SCHEMA, RULES)
        assert (taken.events, taken.refused) == (2, 2)
        assert "ids are in 0..59" in taken.reason
        assert store.samples.all(SCHEMA).features["item"].tolist() == [2, 4]


@pytest.mark.parametrize("waits", [False, True])
def test_a_number_too_large_for_the_model_is_refused_alone(tmp_path: Path, waits: bool) -> None:
    """Also among events that waited: it stops neither the others nor the round that labels them."""
    schema = FeatureSchema((*SCHEMA.features, Feature("price", FeatureKind.DENSE)))
    events = [_event(CLICK, 3, features={"price": 1e39}), _event(CLICK, 4, features={"price": 9.5})]
    with Store(tmp_path) as store:
        store.events.add(events, None if waits else schema, RULES)
        if waits:
            store.events.label_waiting(schema, RULES)
        assert store.samples.all(schema).features["item"].tolist() == [4]
        assert store.events.waiting == 0


def test_features_are_of_one_exposure(tmp_path: Path) -> None:
    """A late click has those of the exposure that it answers; what is shown again begins without them."""
    told = [
        _event(SHOWN, features={"genres": [3]}),
        _event(SKIP),
        _event(CLICK),
        _event(SHOWN),
        _event(CLICK),
    ]
    with Store(tmp_path) as store:
        assert store.events.add(told, SCHEMA, RULES).refused == 0
        assert store.samples.all(SCHEMA).features["genres"][:, 0].tolist() == [3, 3, 0]


def test_features_of_an_earlier_task_are_no_fault_of_an_event(tmp_path: Path) -> None:
    """An item that was shown under other features goes on without them."""
    newer = FeatureSchema(tuple(feature for feature in SCHEMA.features if feature.name != "genres"))
    with Store(tmp_path) as store:
        store.events.add([_event(SHOWN, features={"genres": [3]})], SCHEMA, RULES)
        taken = store.events.add([_event(CLICK), _event(CLICK, 3, features={"genres": [3]})], newer, RULES)
        assert (taken.events, taken.refused) == (1, 1)
        assert store.samples.all(newer).features["item"].tolist() == [2]


def test_an_error_leaves_histories_as_they_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rolled back is not remembered in memory either."""
    with Store(tmp_path) as store:
        store.events.add([_event(CLICK, 2)], SCHEMA, RULES)
        monkeypatch.setattr(store.samples, "retain", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.events.add([_event(CLICK, 4)], SCHEMA, RULES)
        assert store.events.histories.newest(LIKED, 9) == [2]
        assert len(store.samples.all(SCHEMA)) == 1


def test_what_is_remembered_of_events_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, exposures and waiting events: the oldest give way."""
    for name in ("MAX_EXPOSURES_KEPT", "MAX_EVENT_IDS_KEPT", "MAX_WAITING"):
        monkeypatch.setattr(event_store, name, 5)
    with Store(tmp_path) as store:
        for schema in (None, SCHEMA):
            for item in range(1, 12):
                store.events.add([_event(SHOWN, item, event_id=f"{schema is None}{item}")], schema, RULES)
        counts = {
            table: store._database.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608
            for table in ("exposures", "event_ids", "waiting_events")
        }
    assert counts == dict.fromkeys(counts, 5)


def test_samples_are_kept_by_age_and_bytes(tmp_path: Path) -> None:
    """Those of long ago go, and the oldest ones where all are too large; the newest stay."""
    with Store(tmp_path) as store:
        for day in range(4):
            store.events.add([_event(CLICK, 2 + day, day * 86400)], SCHEMA, RULES)
        store.samples.retain(86400.0, 1 << 20)
        assert store.samples.all(SCHEMA).features["item"].tolist() == [3, 4, 5]
        store.samples.retain(0.0, 1)
        assert store.samples.all(SCHEMA).features["item"].tolist() == [5]


def test_samples_are_forgotten_though_no_more_come(tmp_path: Path) -> None:
    """Also those of an app whose clock is years ahead, and those that were joined with them."""
    day_s = 86400
    now = [1_800_000_000.0]
    rules = EventRules(keep_days=10)
    with Store(tmp_path, lambda: Reading(now[0], now[0], "boot", confirmed=True)) as store:
        for item in range(1, ITEMS):
            told = {"kind": "click", "item": item, "time_s": int(now[0]) + (3650 * day_s if item % 9 == 0 else 0)}
            store.events.add(parse_events([told] * 2, int(now[0])), SCHEMA, rules)
        assert store.samples.count == ITEMS - 1
        now[0] += 11 * day_s
        store.events.forget_old_if_due(rules)
        assert (store.samples.count, store.samples.account.age) == (0, ITEMS - 1)


def test_small_batches_are_joined_in_order(tmp_path: Path) -> None:
    """A sample at a time is not a row at a time for ever."""
    with Store(tmp_path) as store:
        for number in range(200):
            store.events.add([_event(CLICK, 1 + number % 59, number)], SCHEMA, RULES)
            store.events.add([_event(SHOWN, 1 + number % 59, number)], SCHEMA, RULES)
        rows = store._database.rows("SELECT count(*) FROM batches")[0][0]
        assert store.samples.all(SCHEMA).time_s.tolist() == list(range(200))
    assert rows < 70


def test_a_round_counts_anew(tmp_path: Path) -> None:
    """How many samples came since the last round is known after a restart."""
    with Store(tmp_path) as store:
        store.events.add([_event(CLICK, 2), _event(CLICK, 3)], SCHEMA, RULES)
        store.samples.note_round()
        store.events.add([_event(CLICK, 4)], SCHEMA, RULES)
    with Store(tmp_path) as store:
        assert store.samples.new == 1


def test_negatives_are_left_out_by_share_and_corrected_for() -> None:
    """The share kept is close to what was asked for, the same each time, and the correction restores the rate."""
    rules = EventRules(keep_negatives=0.25)
    events = [_event(SKIP, 1 + item, item) for item in range(4000)]
    kept = [keeps(event, 0.0, rules) for event in events]
    assert 0.22 < np.mean(kept) < 0.28
    assert kept == [keeps(event, 0.0, rules) for event in events]
    assert all(keeps(event, 1.0, rules) for event in events)
    positives, negatives = 100, 4000
    seen = np.array([np.log(positives / (negatives * 0.25))], np.float32)
    assert 1 / (1 + np.exp(-corrected(seen, 0.25)[0])) == pytest.approx(positives / (positives + negatives))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "buy", "item": 1}, "kind is one of"),
        ({"kind": "click", "item": 0}, "item is a whole number"),
        ({"kind": "click", "item": True}, "item is a whole number"),
        ({"kind": "click", "item": 1, "time_s": -1}, "time_s"),
        ({"kind": "dwell", "item": 1}, "dwell_s"),
        ({"kind": "click", "item": 1, "dwell_s": 3}, "dwell_s"),
        ({"kind": "dwell", "item": 1, "dwell_s": float("nan")}, "dwell_s"),
        ({"kind": "dwell", "item": 1, "dwell_s": 10**400}, "dwell_s"),
        ({"kind": "click", "item": 1, "event_id": "x" * 65}, "event_id"),
        ({"kind": "click", "item": 1, "event_id": "\ud800"}, "event_id"),
        ({"kind": "click", "item": 1, "features": {"a": "b"}}, "features.a"),
        ({"kind": "click", "item": 1, "more": 1}, "an object with"),
        ("click", "an object with"),
    ],
)
def test_a_bad_event_is_told_by_its_place(value: Any, says: str) -> None:
    """And nothing of its request is taken."""
    with pytest.raises(BadRequestError, match=r"events\[1\]: .*" + says):
        parse_events([{"kind": "click", "item": 1}, value], 0)


def test_too_many_events_are_refused() -> None:
    """A request is bounded."""
    with pytest.raises(BadRequestError, match="at most"):
        parse_events([{"kind": "click", "item": 1}] * (MAX_EVENTS + 1), 0)


@settings(deadline=None)
@given(
    st.builds(
        Event,
        st.sampled_from([SHOWN, CLICK, SKIP]),
        st.integers(1, 9),
        st.integers(0, 9),
        st.none() | st.text(min_size=1, max_size=4),
        st.none(),
        st.dictionaries(st.text(max_size=3), st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2), max_size=2),
    )
)
def test_events_come_back_as_they_were(event: Event) -> None:
    """Through JSON, as they lie on disk while they wait."""
    assert parse_event(json.loads(json.dumps(event.to_dict())), MAX_TIME_S) == event


def test_columns_are_padded_as_models_expect() -> None:
    """A sequence in front, keeping the newest; a set behind."""
    sequence = Feature("s", FeatureKind.SEQUENCE, 3, 10, "t")
    assert column_of(sequence, [[1], [1, 2, 3, 4], []]).tolist() == [[0, 0, 1], [2, 3, 4], [0, 0, 0]]
    many = Feature("m", FeatureKind.MULTIVALUED, 3, 10, "t")
    assert column_of(many, [[1], [1, 2, 3]]).tolist() == [[1, 0, 0], [1, 2, 3]]
    dense = Feature("d", FeatureKind.DENSE)
    assert column_of(dense, [1, 2.5]).dtype == np.float32
    assert column_of(dense, []).shape == (0, 1)


@pytest.mark.parametrize("values", [[10], [-1], [1.5], ["a"], [[1]], [None], [True], 3])
def test_ids_that_do_not_fit_are_refused(values: Any) -> None:
    """Numbers outside the vocabulary, and what is no whole number."""
    with pytest.raises(BadRequestError, match="feature c"):
        column_of(Feature("c", FeatureKind.CATEGORICAL, 1, 10, "t"), values)


def test_nothing_taken_is_nothing(tmp_path: Path) -> None:
    """No events give no samples and no error."""
    with Store(tmp_path) as store:
        assert store.events.add([], SCHEMA, RULES) == Taken(0)
