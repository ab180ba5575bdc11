"""Who is a device, what the cloud knows, and which samples test: the protocols ``new`` and ``returning``.

``new``: a seeded share of the users is unseen by the cloud; each of them is a device with at most ``n`` events of
local material (an event is a positive with its negatives, or one rated item). ``returning``: every user's early
samples are in the pool and are its device's local samples. In both, the last 20% of a device's events are the test,
and nobody trains on them.

Hyper-parameters are chosen with ``part="validation"``: every device's last 20% is put out of sight first, and the 20%
before it takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import SplitError
from evaluation.interactions import Interactions
from evaluation.samples import LIKED_RATING, Labels, UserSamples, build_samples, count_ratings
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

UNSEEN_SHARE = 0.35
TEST_SHARE = 0.2

Part = Literal["test", "validation"]


class Protocol(str, Enum):
    """What the cloud knows of a device's user."""

    NEW = "new"
    RETURNING = "returning"


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
    seed: int = 1,
    fold: int = 0,
    part: Part = "test",
) -> Split:
    """Divide a dataset.

    Args:
        data: The ratings.
        labels: What the labels shall mean.
        protocol: What the cloud knows.
        local_events: The device keeps its latest so many events before the test; None keeps all. Only for ``new``.
        seed: Of the unseen users and of the negatives.
        fold: 0, 1 or 2: which group of users is unseen; the three are disjoint and make up all users.
        part: ``test``, or ``validation`` for choosing hyper-parameters.

    Raises:
        SplitError: If no user is left to be a device, or none for the pool.
    """
    unseen = _unseen_users(data.users, seed, fold) if protocol is Protocol.NEW else np.zeros(data.users, np.bool_)
    known = _known_ratings(data, labels, unseen, protocol, part)
    popularity = count_ratings(data, known & (data.rating >= LIKED_RATING))
    samples = build_samples(data, labels, popularity=popularity, seed=seed)
    begin, end = _test_range(samples, part)
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
    return data.rating >= LIKED_RATING if labels is Labels.IMPLICIT else np.ones(len(data), np.bool_)


def _known_ratings(
    data: Interactions, labels: Labels, unseen: NDArray[np.bool_], protocol: Protocol, part: Part
) -> NDArray[np.bool_]:
    """Which ratings the cloud has seen: bool [n]."""
    if protocol is Protocol.NEW:
        return ~unseen[data.user]
    events = _events(data, labels)
    before: NDArray[np.int64] = np.cumsum(events) - events  # events before each rating, over all users
    within: NDArray[np.int64] = before - before[np.minimum(data.starts[data.user], len(data) - 1)]
    begin, _ = _cuts(np.bincount(data.user[events], minlength=data.users), part)
    return within < begin[data.user]


def _cuts(events: NDArray[np.integer], part: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # type: ignore[type-arg]
    """First event of the test and first event after it, of users with so many ``events``."""
    end = events.astype(np.int64)
    begin = np.floor(end * (1 - TEST_SHARE) + 1e-9).astype(np.int64)
    if part == "validation":
        begin, end = np.floor(begin * (1 - TEST_SHARE) + 1e-9).astype(np.int64), begin
    return begin, end


def _test_range(samples: UserSamples, part: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = np.zeros(len(samples.starts) - 1, np.int64)
    np.maximum.at(counts, samples.owner, samples.event.astype(np.int64) + 1)
    return _cuts(counts, part)


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
