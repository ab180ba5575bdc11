"""Who is a device, what the cloud knows, and which samples test: the protocols ``new``, ``returning`` and ``mpda``.

``new``: a seeded share of the users is unseen by the cloud; each of them is a device with at most ``n`` events of
local material (an event is a positive with its negatives, or one rated item). ``returning``: every user's early
samples are in the pool and are its device's local samples. In both, the last 20% of a device's events are the test,
and nobody trains on them. ``mpda`` (Yan et al., 2022): one moment divides all events; what is before it is the pool,
what is after it the test, and the devices are the users who have both.

Hyper-parameters are chosen with ``part="validation"``: every device's last 20% is put out of sight first, and the 20%
before it takes its place; with ``mpda``, all that is after the moment, and a moment before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import SplitError
from evaluation.interactions import Interactions
from evaluation.samples import NEGATIVES, Labels, UserSamples, build_samples, count_ratings
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

UNSEEN_SHARE = 0.35
TEST_SHARE = 0.2

Part = Literal["test", "validation"]
NegativesBy = Literal["popularity", "uniform"]


class Protocol(str, Enum):
    """What the cloud knows of a device's user."""

    NEW = "new"
    RETURNING = "returning"
    MPDA = "mpda"


@dataclass(frozen=True)
class Device:
    """One user's device: ``local`` is what it may learn from, ``test`` what it is judged by, both in time order."""

    user: int
    local: SampleBatch
    test: SampleBatch


@dataclass(frozen=True)
class Split:
    """A dataset, divided.

    Attributes:
        schema: Of every sample.
        pool: What the cloud trains on and matches against.
        pool_owner: int32 [len(pool)], each pool sample's user.
        devices: In the order of their users.
        skipped_users: Users who would be devices but have nothing to be tested by.
        popularity: float64 [items + 1], positives of each item that the cloud has seen.
    """

    schema: FeatureSchema
    pool: SampleBatch
    pool_owner: NDArray[np.int32]
    devices: tuple[Device, ...]
    skipped_users: int
    popularity: NDArray[np.float64]


def split_interactions(
    data: Interactions,
    labels: Labels,
    protocol: Protocol,
    *,
    local_events: int | None = 20,
    negatives: int = NEGATIVES,
    negatives_by: NegativesBy = "popularity",
    seed: int = 1,
    fold: int = 0,
    part: Part = "test",
    split_time_s: int | None = None,
) -> Split:
    """Divide a dataset.

    Args:
        data: The ratings.
        labels: What the labels shall mean.
        protocol: What the cloud knows.
        local_events: The device keeps its latest so many events before the test; None keeps all. Only for ``new``.
        negatives: Of each positive, where labels are implicit.
        negatives_by: Drawn by ``popularity`` among the users that the cloud knows, or ``uniform`` over the items.
        seed: Of the unseen users and of the negatives.
        fold: 0, 1 or 2: which group of users is unseen; the three are disjoint and make up all users.
        part: ``test``, or ``validation`` for choosing hyper-parameters.
        split_time_s: The moment of ``mpda``; None takes the one that 80% of the ratings come before.

    Raises:
        SplitError: If no user is left to be a device, or none for the pool.
    """
    unseen = _unseen_users(data.users, seed, fold) if protocol is Protocol.NEW else np.zeros(data.users, np.bool_)
    events = _events(data, labels)
    if protocol is Protocol.MPDA:
        begin, end = _cuts_in_time(data, events, split_time_s, part)
    else:
        begin, end = _cuts(np.bincount(data.user[events], minlength=data.users), part)
    known = ~unseen[data.user]
    if protocol is not Protocol.NEW:
        known &= _events_before(data, events) < begin[data.user]
    popularity = count_ratings(data, known & data.liked)
    weights = popularity if negatives_by == "popularity" else np.ones_like(popularity)
    until = _known_until(data, _events_before(data, events), begin, end)
    samples = build_samples(data, labels, popularity=weights, known_until=until, negatives=negatives, seed=seed)
    if protocol is Protocol.NEW:
        in_pool, users = ~unseen[samples.owner], np.flatnonzero(unseen)
    else:
        in_pool, users = samples.event < begin[samples.owner], np.arange(data.users)
        local_events = None
    devices = [_device(samples, int(user), int(begin[user]), int(end[user]), local_events) for user in users]
    usable = tuple(device for device in devices if device is not None)
    if not usable or not in_pool.any():
        raise SplitError(f"{data.name}: {data.users} users are too few for protocol {protocol.value}; use more data")
    pool = samples.batch.take(in_pool)
    return Split(pool.schema, pool, samples.owner[in_pool], usable, len(devices) - len(usable), popularity)


def _unseen_users(users: int, seed: int, fold: int) -> NDArray[np.bool_]:
    if fold not in (0, 1, 2):
        raise SplitError(f"fold must be 0, 1 or 2, got {fold}")
    order = np.random.default_rng([seed, 0x5EED]).permutation(users)
    first, last = (round(min(1.0, share * UNSEEN_SHARE) * users) for share in (fold, fold + 1))
    unseen = np.zeros(users, np.bool_)
    unseen[order[first:last]] = True
    return unseen


def _events(data: Interactions, labels: Labels) -> NDArray[np.bool_]:
    return data.liked if labels is Labels.IMPLICIT else np.ones(len(data), np.bool_)


def _events_before(data: Interactions, events: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many events of its user stand before each rating: int64 [n]."""
    before = np.concatenate([[0], np.cumsum(events)])
    counted: NDArray[np.int64] = before[:-1] - before[data.starts[data.user]]
    return counted


def _known_until(
    data: Interactions, before: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The last rating that bars an item from being a negative of each, int64 [n].

    What is learnt from knows no later rating of its user. A test knows all but those that are out of sight while the
    validation part is the test.
    """
    in_sight = np.bincount(data.user[before < end[data.user]], minlength=data.users)
    last = data.starts[: data.users] + in_sight - 1
    return np.where(before < begin[data.user], np.arange(len(data)), last[data.user]).astype(np.int64)


def _cuts(events: NDArray[np.integer], part: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # type: ignore[type-arg]
    """First event of the test and first event after it, of users with so many ``events``."""
    end = events.astype(np.int64)
    begin = np.floor(end * (1 - TEST_SHARE) + 1e-9).astype(np.int64)
    if part == "validation":
        begin, end = np.floor(begin * (1 - TEST_SHARE) + 1e-9).astype(np.int64), begin
    return begin, end


def _cuts_in_time(
    data: Interactions, events: NDArray[np.bool_], moment_s: int | None, part: Part
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same where one moment divides the events of all; no test for users who lack events on either side."""
    last_s = np.iinfo(np.int64).max
    if moment_s is None:
        moment_s = _moment(data.time_s)
    if part == "validation":
        moment_s, last_s = _moment(data.time_s[data.time_s < moment_s]), moment_s
    begin, end = (
        np.bincount(data.user[events & (data.time_s < until_s)], minlength=data.users).astype(np.int64)
        for until_s in (moment_s, last_s)
    )
    return begin, np.where(begin == 0, 0, end)


def _moment(time_s: NDArray[np.int64]) -> int:
    return int(np.quantile(time_s, 1 - TEST_SHARE, method="higher")) if len(time_s) else 0


def _device(samples: UserSamples, user: int, begin: int, end: int, local_events: int | None) -> Device | None:
    """The user's device, or None where there is nothing to be tested by."""
    if end <= begin:
        return None
    rows = samples.rows_of(user)
    event = samples.event[rows]
    oldest = 0 if local_events is None else begin - local_events
    local = np.flatnonzero((event >= oldest) & (event < begin)) + rows.start
    test = np.flatnonzero((event >= begin) & (event < end)) + rows.start
    return Device(user, samples.batch.take(local), samples.batch.take(test))
