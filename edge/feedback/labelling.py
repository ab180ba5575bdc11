"""From events to labels: which event makes a sample of an item, and of which label. Pure.

An item has at most one label for each time it was put before the user: its impressions since the last label make one
exposure, which a click, a long dwell, a skip, or too many impressions without an answer close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edge.errors import ConfigError
from edge.feedback.events import Event, EventKind

POSITIVE, NEGATIVE = 1.0, 0.0
MAX_EXPOSURES = 1000


@dataclass(frozen=True, kw_only=True)
class EventRules:
    """How events become samples, and how long these are kept.

    Attributes:
        exposures_for_negative: So many impressions without a click make a sample of label 0.
        click_is_positive: Whether a click makes a sample of label 1; where not, only a long dwell does.
        dwell_for_positive_s: A dwell of so many seconds makes a sample of label 1; None for none.
        skip_is_negative: Whether a skip makes a sample of label 0.
        keep_negatives: Share of the samples of label 0 that are kept; see `edge.feedback.prior`.
        item_feature: The feature that holds the item's id.
        disliked_features: Histories of items that were skipped; the other histories of items are of those of label 1.
        keep_days: Samples are forgotten after so many days.
        keep_bytes: The oldest samples are forgotten where all are larger, encoded.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    exposures_for_negative: int = 3
    click_is_positive: bool = True
    dwell_for_positive_s: float | None = 30.0
    skip_is_negative: bool = True
    keep_negatives: float = 1.0
    item_feature: str = "item"
    disliked_features: tuple[str, ...] = ("disliked",)
    keep_days: float = 365.0
    keep_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        bounds: tuple[tuple[str, float | None, float, float], ...] = (
            ("exposures_for_negative", self.exposures_for_negative, 1, MAX_EXPOSURES),
            ("dwell_for_positive_s", self.dwell_for_positive_s, 0.0, 86400.0),
            ("keep_negatives", self.keep_negatives, 0.001, 1.0),
            ("keep_days", self.keep_days, 0.01, 36500.0),
            ("keep_bytes", self.keep_bytes, 1 << 16, 1 << 30),
        )
        for name, value, least, most in bounds:
            if value is not None and not least <= value <= most:
                raise ConfigError(f"configuration: events.{name} {value} is not in {least:g}..{most:g}")


@dataclass(frozen=True)
class Exposure:
    """What the user did about an item since it was put before them.

    Attributes:
        impressions: Since the last label.
        label: Of the sample that closed the exposure; None while it is open.
        features: The item's, as the app last told them.
    """

    impressions: int = 0
    label: float | None = None
    features: Mapping[str, Any] = field(default_factory=dict)


def judge(event: Event, before: Exposure, rules: EventRules) -> tuple[Exposure, float | None]:
    """What an event makes of an item's exposure, and the label of the sample that it gives, if any."""
    begins = event.kind is EventKind.IMPRESSION and before.label is not None
    known = {} if begins else before.features  # the moment's features are of that exposure alone
    now = replace(before, features={**known, **event.features})
    if event.kind is EventKind.IMPRESSION:
        return _shown(now, rules)
    if _pleases(event, rules):
        return _closed(now, POSITIVE, now.label != POSITIVE)
    if event.kind is EventKind.SKIP and rules.skip_is_negative:
        return _closed(now, NEGATIVE, now.label is None)
    return now, None


def _pleases(event: Event, rules: EventRules) -> bool:
    if event.kind is EventKind.CLICK:
        return rules.click_is_positive
    long_s = rules.dwell_for_positive_s
    return event.dwell_s is not None and long_s is not None and event.dwell_s >= long_s


def _shown(now: Exposure, rules: EventRules) -> tuple[Exposure, float | None]:
    impressions = now.impressions + 1
    if impressions >= rules.exposures_for_negative:
        return _closed(now, NEGATIVE, first=True)
    return replace(now, impressions=impressions, label=None), None


def _closed(now: Exposure, label: float, first: bool) -> tuple[Exposure, float | None]:
    """A label for what has none yet; whoever clicks on what they skipped has changed their mind, and not vice versa."""
    if not first:
        return now, None
    return replace(now, impressions=0, label=label), label


def keeps(event: Event, label: float, rules: EventRules) -> bool:
    """Whether a sample is kept: every positive, and the chosen share of negatives, drawn by item and time."""
    if label == POSITIVE or rules.keep_negatives >= 1.0:
        return True
    drawn = hashlib.blake2b(f"{event.item}/{event.time_s}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "little") < rules.keep_negatives * 2.0**64
