"""Splits: what the cloud must not see, what a device may learn from, what tests."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.errors import SplitError
from evaluation.samples import NEGATIVES, Labels
from evaluation.split import Protocol, split_interactions
from evaluation.synthetic import generate_synthetic

_DATA = generate_synthetic(users=60, items=120, seed=3).interactions
_GROUP = 1 + NEGATIVES
_BY_SHARE = [Protocol.NEW, Protocol.RETURNING]


def test_new_users_are_not_in_the_pool() -> None:
    """35% of the users are devices, and none of their samples is the cloud's."""
    split = split_interactions(_DATA, Labels.IMPLICIT, Protocol.NEW)
    devices = {device.user for device in split.devices}
    assert len(devices) + split.skipped_users == round(0.35 * 60)
    assert not devices & set(split.pool_owner.tolist())


def test_the_three_groups_make_up_all_users() -> None:
    """Every user is a device in exactly one of the folds 0, 1 and 2."""
    users = [
        device.user
        for fold in range(3)
        for device in split_interactions(_DATA, Labels.EXPLICIT, Protocol.NEW, fold=fold).devices
    ]
    assert sorted(users) == list(range(60))


@pytest.mark.parametrize("events", [5, 20])
def test_local_samples_are_the_latest_events_before_the_test(events: int) -> None:
    """At most n events, each with its negatives, and none later than the test's first."""
    for device in split_interactions(_DATA, Labels.IMPLICIT, Protocol.NEW, local_events=events).devices:
        assert len(device.local) <= events * _GROUP
        assert len(device.local) % _GROUP == 0
        assert device.local.time_s.max(initial=0) <= device.test.time_s.min()


@pytest.mark.parametrize("protocol", _BY_SHARE)
@pytest.mark.parametrize("labels", list(Labels))
def test_the_last_fifth_is_the_test(labels: Labels, protocol: Protocol) -> None:
    """With all local samples kept, test and local samples divide a user's events 1 to 4."""
    split = split_interactions(_DATA, labels, protocol, local_events=None)
    group = _GROUP if labels is Labels.IMPLICIT else 1
    for device in split.devices:
        local, test = len(device.local) // group, len(device.test) // group
        assert local == int(0.8 * (local + test) + 1e-9)


def test_a_returning_users_early_samples_are_in_the_pool_and_the_test_is_not() -> None:
    """The pool holds exactly the devices' local samples."""
    split = split_interactions(_DATA, Labels.EXPLICIT, Protocol.RETURNING)
    for device in split.devices:
        mine = split.pool.take(split.pool_owner == device.user)
        assert mine.time_s.tolist() == device.local.time_s.tolist()


@pytest.mark.parametrize("protocol", _BY_SHARE)
def test_the_validation_part_never_touches_the_test(protocol: Protocol) -> None:
    """It ends where the test begins, and what the cloud has of that user ends where it begins."""
    final = split_interactions(_DATA, Labels.EXPLICIT, protocol, local_events=None)
    validation = split_interactions(_DATA, Labels.EXPLICIT, protocol, local_events=None, part="validation")
    tests = {device.user: device for device in final.devices}
    for device in validation.devices:
        seen = len(device.local) + len(device.test)
        assert seen == len(tests[device.user].local)


@pytest.mark.parametrize("labels", list(Labels))
def test_one_moment_divides_everybodys_events(labels: Labels) -> None:
    """Pool and local samples lie before it, tests after it, and a device's user has both."""
    moment = int(np.quantile(_DATA.time_s, 0.5))
    split = split_interactions(_DATA, labels, Protocol.MPDA, split_time_s=moment)
    assert split.pool.time_s.max() < moment
    assert split.skipped_users > 0
    for device in split.devices:
        assert device.test.time_s.min() >= moment > device.local.time_s.max()
        assert (split.pool_owner == device.user).sum() == len(device.local)


def test_the_validation_of_a_moment_hides_all_that_is_after_it() -> None:
    """By default the moment is the one that 80% of the ratings come before; the validation's lies before it."""
    final, chosen = (
        split_interactions(_DATA, Labels.EXPLICIT, Protocol.MPDA, part=part) for part in ("test", "validation")
    )
    begin = min(int(device.test.time_s.min()) for device in final.devices)
    assert max(int(device.test.time_s.max()) for device in chosen.devices) < begin
    assert len(chosen.pool) < len(final.pool)


def test_negatives_are_drawn_as_asked() -> None:
    """As many as wanted; uniformly, an item's popularity does not count."""
    by: dict[str, float] = {}
    for way in ("popularity", "uniform"):
        split = split_interactions(_DATA, Labels.IMPLICIT, Protocol.NEW, negatives=2, negatives_by=way)
        assert split.pool.label.reshape(-1, 3).tolist() == [[1, 0, 0]] * (len(split.pool) // 3)
        drawn = np.bincount(split.pool.features["item"][split.pool.label == 0], minlength=_DATA.items + 1)
        by[way] = float(np.corrcoef(drawn[1:], split.popularity[1:])[0, 1])
    assert by["popularity"] > 0.5 > by["uniform"]


def test_a_devices_own_negatives_do_not_tell_the_tests() -> None:
    """An item that a device saw as a negative is as likely among the test's positives as among its negatives.

    Were its negatives never rated at all, none would be: a model that remembers its negatives would win by that alone.
    """
    seen = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for seed in range(8):
        for device in split_interactions(_DATA, Labels.IMPLICIT, Protocol.NEW, seed=seed).devices:
            was_negative = np.isin(device.test.features["item"], device.local.features["item"][device.local.label == 0])
            for positive in (True, False):
                rows = (device.test.label > 0.5) == positive
                seen[positive] += int(was_negative[rows].sum())
                total[positive] += int(rows.sum())
    shares = {positive: seen[positive] / total[positive] for positive in seen}
    assert shares[True] > 0.7 * shares[False] > 0


def test_popularity_counts_only_what_the_cloud_has_seen() -> None:
    """Positives of pool users; a device's own ratings do not move its negatives."""
    split = split_interactions(_DATA, Labels.IMPLICIT, Protocol.NEW)
    positives = split.pool.features["item"][split.pool.label == 1]
    assert (split.popularity == np.bincount(positives, minlength=_DATA.items + 1)).all()


def test_another_seed_chooses_other_devices() -> None:
    """The choice of users is seeded."""
    first, again, other = (
        [device.user for device in split_interactions(_DATA, Labels.EXPLICIT, Protocol.NEW, seed=seed).devices]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_too_little_data_is_refused() -> None:
    """One user cannot be both pool and device."""
    lonely = generate_synthetic(users=1, items=60, clusters=1).interactions
    with pytest.raises(SplitError, match="too few"):
        split_interactions(lonely, Labels.EXPLICIT, Protocol.NEW)
