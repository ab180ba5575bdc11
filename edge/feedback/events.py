"""What an app tells of its user: what was shown, clicked, skipped, and for how long it was looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from edge.errors import BadRequestError
from protocol.schema import MAX_FEATURE_LENGTH, MAX_FEATURES, MAX_VOCABULARY

MAX_EVENTS = 1000  # of one request
MAX_EVENT_ID_LENGTH = 64
MAX_TIME_S = 1 << 40
MAX_DWELL_S = 7 * 86400.0


class EventKind(str, Enum):
    """What the user did, or did not."""

    IMPRESSION = "impression"
    CLICK = "click"
    SKIP = "skip"
    DWELL = "dwell"


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        kind: What happened.
        item: The item's id, 1 or more.
        time_s: When, unix seconds.
        event_id: The app's name for it: an event that comes again under its name is passed over. None takes no care.
        dwell_s: How long the item was looked at; of a dwell, and of nothing else.
        features: The item's and the moment's other features by name, as plain values.
    """

    kind: EventKind
    item: int
    time_s: int
    event_id: str | None = None
    dwell_s: float | None = None
    features: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `parse_event` reads them."""
        values = {**vars(self), "kind": self.kind.value, "features": dict(self.features)}
        return {name: value for name, value in values.items() if value is not None and value != {}}


_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can write and no file can hold
_FIELDS = frozenset({"kind", "item", "time_s", "event_id", "dwell_s", "features"})


def parse_events(values: Any, now_s: int) -> list[Event]:
    """Read a list of events.

    Args:
        values: As JSON gave them.
        now_s: Time of events that state none, or one to come: an app's clock must not keep samples from ageing.

    Raises:
        BadRequestError: If it is no list of at most `MAX_EVENTS` events; it names the event by its place.
    """
    if not isinstance(values, list) or len(values) > MAX_EVENTS:
        raise BadRequestError(f"events: a list of at most {MAX_EVENTS} is expected")
    events = []
    for place, value in enumerate(values):
        try:
            events.append(parse_event(value, now_s))
        except BadRequestError as error:
            raise BadRequestError(f"events[{place}]: {error}") from error
    return events


def parse_event(values: Any, now_s: int) -> Event:
    """Read one event; see `parse_events`."""
    if not isinstance(values, dict) or not set(values) <= _FIELDS:
        raise BadRequestError(f"an object with {', '.join(sorted(_FIELDS))} is expected")
    try:
        kind = EventKind(values.get("kind"))
    except ValueError:
        raise BadRequestError(f"kind is one of {', '.join(kind.value for kind in EventKind)}") from None
    return Event(
        kind,
        _integer(values, "item", 1, MAX_VOCABULARY - 1),
        min(now_s, _integer({"time_s": now_s, **values}, "time_s", 0, MAX_TIME_S)),
        _event_id(values.get("event_id")),
        _dwell_s(kind, values.get("dwell_s")),
        _features(values.get("features", {})),
    )


def _integer(values: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = values.get(name)
    if type(value) is not int or not least <= value <= most:
        raise BadRequestError(f"{name} is a whole number in {least}..{most}")
    return value


def _event_id(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_EVENT_ID_LENGTH or _SURROGATE.search(value):
        raise BadRequestError(f"event_id has 1 to {MAX_EVENT_ID_LENGTH} characters")
    return value


def _dwell_s(kind: EventKind, value: Any) -> float | None:
    if (value is not None) != (kind is EventKind.DWELL):
        raise BadRequestError("dwell_s is stated of a dwell, and of nothing else")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= MAX_DWELL_S:
        raise BadRequestError(f"dwell_s is a number of seconds in 0..{MAX_DWELL_S:g}")
    return float(value)


def _features(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_FEATURES:
        raise BadRequestError(f"features are an object of at most {MAX_FEATURES}")
    for name, one in value.items():
        numbers = one if isinstance(one, list) else [one]
        if len(numbers) > MAX_FEATURE_LENGTH or any(type(number) not in (int, float) for number in numbers):
            raise BadRequestError(f"features.{name[:40]}: a number, or a list of at most {MAX_FEATURE_LENGTH}")
    return value
