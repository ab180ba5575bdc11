"""Guards against poisoning: what is held back, why, and what may be done with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cloud_broker.errors import StorageError
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from protocol.batch_codec import encode_batch
from protocol.errors import MalformedMessageError
from protocol.samples import SampleBatch
from tests.cloud_broker.samples import ITEMS, SCHEMA, user_samples

NOW_S = 2_000_000.0
OPTIONS = PoolOptions(max_samples_per_day=100, judging_from_samples=200)


def _changed(batch: SampleBatch, **columns: np.ndarray) -> SampleBatch:  # type: ignore[type-arg]
    label, time_s = columns.pop("label", batch.label), columns.pop("time_s", batch.time_s)
    return SampleBatch(SCHEMA, {**batch.features, **columns}, label, time_s)


@pytest.fixture
def pool(tmp_path: Path) -> SamplePool:
    """A pool of 600 honest samples of 30 contributors, a third of them likes; nobody has the last item."""
    pool = SamplePool(tmp_path, SCHEMA, OPTIONS, clock=lambda: NOW_S)
    gifts = [Given(f"user-{user}", user_samples(user), "import") for user in range(30)]
    for gift in gifts:
        gift.batch.features["item"][gift.batch.features["item"] == ITEMS - 1] = 1
    pool.add_many(gifts)
    return pool


def test_honest_contributions_pass(pool: SamplePool) -> None:
    """What looks like the rest of the pool goes in."""
    assert pool.contribute("dev", user_samples(40, 60), "m1") == 60
    assert pool.held() == []


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (lambda batch: _changed(batch, label=np.ones(60, np.float32)), "label rate: 1.00 .* in the pool 0.3"),
        (lambda batch: _changed(batch, item=np.full(60, ITEMS - 1, np.int32)), "outlier: 1.00 .* nobody else has"),
        (lambda batch: _changed(batch, item=np.full(60, 7, np.int32)), "outlier: 1.00 .* of item 7"),
        (lambda batch: _changed(batch, time_s=batch.time_s + 5_000_000), "outlier: .* days ahead of the clock"),
    ],
)
def test_poison_is_held_back_with_a_reason(pool: SamplePool, poison, reason: str) -> None:  # type: ignore[no-untyped-def]
    """Flipped labels, made-up items, one item pushed, times to come: quarantined, on no row, and said why."""
    before = len(pool)
    assert pool.contribute("dev", poison(user_samples(40, 60)), "m1") == 0
    (held,) = pool.held()
    assert (len(pool), held.contributor, held.samples) == (before, "dev", 60)
    assert re.match(reason, held.reason)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": np.tile(np.array([1000, -999], np.float32), 30)},
        {"label": np.full(60, 0.5, np.float32)},
        {"time_s": np.arange(60) - 5},
        {"time_s": np.arange(60) + (1 << 40)},
    ],
)
def test_what_is_no_label_or_time_is_refused(pool: SamplePool, wrong: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    """Labels whose mean is that of honest ones would be trained on; neither a device nor an operator gives such."""
    batch = _changed(user_samples(40, 60), **wrong)
    with pytest.raises(MalformedMessageError, match="batch: "):
        pool.contribute("dev", batch, "m1")
    with pytest.raises(MalformedMessageError, match="batch: "):
        pool.add_many([Given("ann", user_samples(41), "m1"), Given("dev", batch, "m1")])
    assert (len(pool), pool.held()) == (600, [])


def test_a_flood_is_held_back_from_where_it_exceeds_a_day(pool: SamplePool) -> None:
    """Samples beyond a day's bound are quarantined, the first ones stay."""
    assert pool.contribute("dev", user_samples(40, 60), "m1") == 60
    assert pool.contribute("dev", user_samples(41, 60), "m2") == 0
    assert pool.held()[0].reason == "rate: 120 samples in a day, 100 are allowed"


def test_small_pieces_do_not_slip_through(pool: SamplePool) -> None:
    """Flipped labels are noticed once a contributor's pieces together are enough to judge by."""
    batch = _changed(user_samples(40, 60), label=np.ones(60, np.float32))
    added = [pool.contribute("dev", batch.take(slice(at, at + 5)), f"m{at}") for at in range(0, 60, 5)]
    assert added == [5, 5, 5] + [0] * 9


@pytest.mark.parametrize(("item", "reason"), [(7, "1.00 .* of item 7"), (ITEMS - 1, "nobody else has")])
def test_items_in_small_pieces_do_not_slip_through(pool: SamplePool, item: int, reason: str) -> None:
    """Neither one that is pushed nor one that is made up, by contributions each too small to be judged."""
    batch = _changed(user_samples(40, 60), item=np.full(60, item, np.int32))
    added = [pool.contribute("dev", batch.take(slice(at, at + 19)), f"m{at}") for at in range(0, 57, 19)]
    assert added == [19, 0, 0]
    assert all(re.search(reason, held.reason) for held in pool.held())
    honest = user_samples(42, 30)
    assert sum(pool.contribute("other", honest.take(slice(at, at + 1)), f"m{at}") for at in range(30)) == 30


def test_a_released_contribution_is_in_the_pool_once(pool: SamplePool, tmp_path: Path) -> None:
    """Releasing makes samples matchable, survives opening again, and happens once."""
    batch = _changed(user_samples(40, 60), item=np.full(60, 7, np.int32))
    pool.contribute("dev", batch, "m1")
    (held,) = pool.held()
    assert pool.contribute("dev", batch, "m1") == 0
    assert pool.release(held.number) == 60
    assert pool.held() == []
    with pytest.raises(StorageError, match=r"no contribution .* is in quarantine"):
        pool.release(held.number)
    pool.close()
    assert len(SamplePool(tmp_path)) == 660


@pytest.mark.parametrize("how", ["drop", "forget"])
def test_what_is_held_back_can_be_deleted(pool: SamplePool, tmp_path: Path, how: str) -> None:
    """By an operator, or by its contributor: its bytes are on no disk."""
    batch = _changed(user_samples(40, 60), item=np.full(60, 7, np.int32))
    pool.contribute("dev", batch, "m1")
    (segment,) = (tmp_path / "segments").iterdir()
    assert encode_batch(batch) in segment.read_bytes()
    assert (pool.drop(pool.held()[0].number) if how == "drop" else pool.forget("dev", "f1")) == 60
    assert pool.held() == []
    assert encode_batch(batch) not in segment.read_bytes()
