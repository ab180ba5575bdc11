"""Contributions as the pool lists them: to be listed, with rows, in quarantine, and leaving."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_broker.pool.segments import Location


@dataclass(frozen=True)
class Entry:
    """A contribution to be listed.

    Attributes:
        contributor: Its name.
        message_id: By which it counts once.
        samples: How many.
        at: Where they lie.
        first_row: Their first row; None while quarantined.
        newest_s: Time of the latest sample.
        received_s: When it came.
        reason: Why it is quarantined.
    """

    contributor: str
    message_id: str
    samples: int
    at: Location
    first_row: int | None
    newest_s: int
    received_s: float
    reason: str | None = None


@dataclass(frozen=True)
class Placed:
    """A contribution that has rows."""

    contributor: int
    first_row: int
    samples: int
    at: Location


@dataclass(frozen=True)
class Held:
    """A contribution in quarantine.

    Attributes:
        number: By which it is released or dropped.
        contributor: Its name.
        message_id: Its message.
        samples: How many.
        reason: Why it is there.
        received_s: Since when.
    """

    number: int
    contributor: str
    message_id: str
    samples: int
    reason: str
    received_s: float


@dataclass(frozen=True)
class Leaving:
    """What was taken off the list and is to be erased; ``first_row`` is None if it had no rows."""

    at: Location
    contributor: int
    samples: int
    first_row: int | None
