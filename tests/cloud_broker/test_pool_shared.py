"""The pool among several workers, what it keeps, and who shares an item."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import ConfigError, StorageError
from cloud_broker.pool.columns import FORGOTTEN, content_keys
from cloud_broker.pool.manifest import Manifest
from cloud_broker.pool.options import PoolOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from protocol.batch_codec import encode_batch
from protocol.samples import SampleBatch
from tests.cloud_broker.samples import SCHEMA, user_samples

DAY_S = 86_400


def _later(batch: SampleBatch, seconds: int) -> SampleBatch:
    return SampleBatch(batch.schema, batch.features, batch.label, batch.time_s + seconds)


def _sharers(pool: SamplePool) -> list[int]:
    """How many contributors have each item, counted the plain way."""
    live = pool.live_rows()
    pairs = {*zip(pool.contributors[live].tolist(), pool.columns.items(live).tolist(), strict=True)}
    counts: list[int] = np.bincount([item for _, item in pairs], minlength=len(pool.columns.sharers)).tolist()
    return counts


def test_what_one_worker_adds_or_deletes_all_workers_have_or_lose(tmp_path: Path) -> None:
    """Workers that have the pool open see each other's samples at once, write in turns, and forget together."""
    one, other = SamplePool(tmp_path, SCHEMA), SamplePool(tmp_path)
    one.add("ann", user_samples(1), "m1")
    other.add("bob", user_samples(2, 3000), "m2")
    one.add("cid", user_samples(3), "m3")
    assert len(one) == len(other) == 3040
    assert other.add("ann", user_samples(1), "m4") == 0
    given = one.take(np.arange(20))
    assert given.time_s.any()
    assert other.forget("ann", "f1") == 20
    assert (one.contributors[:20] == FORGOTTEN).all()
    assert not any(column[:20].any() for _, column in one.batch().columns())
    assert _sharers(one) == _sharers(other) == one.columns.sharers.tolist()
    for pool in (one, other):
        pool.close()
    assert len(SamplePool(tmp_path)) == 3020


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_is_added_while_all_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    """Samples and whose they are stay as many: models are trained while devices contribute."""
    pool, other = SamplePool(tmp_path, SCHEMA), SamplePool(tmp_path)
    pool.add("ann", user_samples(1), "m1")
    pool.add("bob", user_samples(2), "m1")
    if forgotten:
        pool.forget("ann", "f1")
    reading = SamplePool.take

    def late(self: SamplePool, rows: slice) -> SampleBatch:
        other.add("cid", user_samples(3), "m1")
        return reading(self, rows)

    monkeypatch.setattr(SamplePool, "take", late)
    batch, owners = pool.living()
    assert len(other) == 60
    assert len(batch) == len(owners) == (20 if forgotten else 40)


def test_a_pool_forgotten_whole_opens_again(tmp_path: Path) -> None:
    """A pool that has lost all it had is an empty pool, and takes samples again."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    assert pool.forget("ann", "f1") == 20
    pool.close()
    reopened = SamplePool(tmp_path)
    assert len(reopened) == 0
    reopened.add("bob", user_samples(2), "m2")
    reopened.close()
    assert len(SamplePool(tmp_path)) == 20


def test_columns_are_made_again_from_segments(tmp_path: Path) -> None:
    """Columns that are lost, as those not yet on disk are in a power cut, come back as they were, gaps included."""
    pool, watcher = SamplePool(tmp_path, SCHEMA), SamplePool(tmp_path)
    for number, name in enumerate(["ann", "bob", "ann", "cid"]):
        pool.add(name, user_samples(number), f"m{number}")
    pool.forget("bob", "f1")
    before = [(name, column.copy()) for name, column in pool.batch().columns()]
    owners, sharers = pool.contributors.copy(), pool.columns.sharers.copy()
    shutil.rmtree(tmp_path / "columns")
    again = SamplePool(tmp_path)  # not alone, so rows keep their numbers
    assert all(np.array_equal(dict(again.batch().columns())[name], column) for name, column in before)
    assert np.array_equal(again.contributors, owners)
    assert np.array_equal(again.columns.sharers, sharers)
    watcher.close()


_WRITER = """
import sys; from pathlib import Path; from cloud_broker.pool.sample_pool import SamplePool
from tests.cloud_broker.samples import user_samples
pool, name = SamplePool(Path(sys.argv[1])), sys.argv[2]
for number in range(100000):
    pool.add(name, user_samples(number, 30), f"m{number}"); print(number, flush=True)
"""


def test_writers_at_once_lose_nothing_when_one_is_killed(tmp_path: Path) -> None:
    """Two processes add at the same time, one is killed at any moment: whatever was acknowledged is there, once."""
    SamplePool(tmp_path, SCHEMA).close()
    writers = {
        name: subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        for name in ("ann", "bob")
    }
    acknowledged = {}
    try:
        for name, lines in (("ann", 8), ("bob", 20)):
            stdout = writers[name].stdout
            assert stdout is not None
            acknowledged[name] = [int(stdout.readline()) for _ in range(lines)][-1]
            writers[name].kill()
    finally:
        for writer in writers.values():
            writer.kill()
            writer.communicate()
    pool = SamplePool(tmp_path)
    for name, last in acknowledged.items():
        mine = pool.contributors == pool.contributor_number(name)
        rows = {*zip(pool.content_keys[mine].tolist(), pool.batch().time_s[mine].tolist(), strict=True)}
        assert len(rows) == mine.sum()
        for number in range(last + 1):
            batch = user_samples(number, 30)
            assert {*zip(content_keys(batch).tolist(), batch.time_s.tolist(), strict=True)} <= rows
    assert pool.columns.sharers.tolist() == _sharers(pool)


def test_a_full_disk_is_an_error_and_kills_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is taken before it is written to; what found none is there once there is room, and the rest meanwhile.

    Emulated at the call that asks for room; that a mapped write without it would be a SIGBUS is the kernel's word.
    """
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        for _ in range(2):
            with pytest.raises(StorageError, match=r"cannot extend .*No space left"):
                pool.add("bob", user_samples(2, 3000), "m1")
        assert len(pool) == 20
        assert pool.batch().time_s.all()
    assert pool.add("bob", user_samples(2, 3000), "m1") == 0
    assert len(pool.live_rows()) == 3020
    assert pool.columns.sharers.tolist() == _sharers(pool)
    for path in (tmp_path / "columns").glob("*.col"):
        row_bytes = path.stat().st_size // 4096
        assert path.stat().st_blocks * 512 >= 3020 * row_bytes


class _KilledError(BaseException):
    """Stands for SIGKILL: nothing that follows is run."""


def _kill(*_: object) -> None:
    raise _KilledError


def _killed_after(step: Callable[..., object]) -> Callable[..., None]:
    def killed(*told: object) -> None:
        step(*told)
        raise _KilledError

    return killed


def test_what_one_worker_was_killed_over_the_others_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contribution that was listed and not yet in the columns is there for all once somebody adds."""
    one, other = SamplePool(tmp_path, SCHEMA), SamplePool(tmp_path)
    monkeypatch.setattr(one._columns, "append", _kill)
    with pytest.raises(_KilledError):
        one.add("ann", user_samples(1), "m1")
    assert other.add("ann", user_samples(1), "m1") == 0
    other.add("bob", user_samples(2), "m1")
    assert other.live() == (2, 40)
    assert len(other.live_rows()) == 40
    assert other.columns.sharers.tolist() == _sharers(other)
    assert other.forget("ann", "f1") == 20


@pytest.mark.parametrize("then", ["add", "retain", "ask again"])
def test_a_deletion_whose_process_was_killed_is_finished_by_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Before anything is written in its place: what the others add meanwhile is not overwritten later."""
    one, other = SamplePool(tmp_path, SCHEMA), SamplePool(tmp_path)
    for name, user in (("ann", 1), ("bob", 2), ("cid", 3)):
        one.add(name, user_samples(user), "m1")
    monkeypatch.setattr(one._eraser, "erase", _kill)
    with pytest.raises(_KilledError):
        one.forget("cid", "f1")
    if then == "add":
        other.add("dan", user_samples(4), "m1")
    elif then == "retain":
        other.retain()
    else:
        other.forget("cid", "f1")
    assert (other.contributors != other.contributor_number("cid")).all()
    (segment,) = (tmp_path / "segments").iterdir()
    assert encode_batch(user_samples(3)) not in segment.read_bytes()
    other.forget("ann", "f2")
    shutil.rmtree(tmp_path / "columns")
    names = {"bob", "dan"} if then == "add" else {"bob"}
    reopened = SamplePool(tmp_path)
    assert {reopened.contributor_names()[number] for number in reopened.contributors[reopened.live_rows()]} == names


_KILLS = [
    ("_manifest", "record"),
    ("_columns", "append"),
    ("_columns", "forget"),
    ("_columns", "open_items_again"),
    ("_segments", "append"),
    ("_segments", "erase"),
    ("_manifest", "left"),
]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["add", "forget", "retain"]),
            st.sampled_from([None, *_KILLS]),
            st.booleans(),
        ),
        max_size=10,
    )
)
def test_whoever_is_killed_anywhere_the_pool_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, tuple[str, str] | None, bool]]
) -> None:
    """Before or after any step on the disk: once another has written, rows, list and segments agree."""
    folder, options = tmp_path_factory.mktemp("pool"), PoolOptions(max_samples_per_contributor=25)
    pools = [SamplePool(folder, SCHEMA, options), SamplePool(folder, None, options)]
    for number, (name, step, kill, late) in enumerate(steps):
        one, other = pools
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_KilledError):
            if kill is not None:
                part, what = getattr(one, kill[0]), kill[1]
                patch.setattr(part, what, _killed_after(getattr(part, what)) if late else _kill)
            if step == "add":
                one.add(name, _later(user_samples(number, 10), number), f"m{number}")
            elif step == "forget":
                one.forget(name, f"f{number}")
            else:
                one.retain()
        other.add("d", _later(user_samples(number, 10), 1000 + number), f"m{number}")
        assert other.live()[1] == len(other.live_rows())
        assert other.columns.sharers.tolist() == _sharers(other)
        if kill is not None:
            one.close()
            one = SamplePool(folder, None, options)
        pools = [other, one]
    for pool in pools:
        pool.close()
    shutil.rmtree(folder / "columns")
    assert SamplePool(folder).live()[1] == len(pools[0].live_rows())


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "forget", "retain", "reopen"]), st.integers(0, 9)),
        max_size=8,
    )
)
def test_sharers_are_counted_right_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    """After any adding, forgetting, retention and opening again, each item's count of contributors is right."""
    folder = tmp_path_factory.mktemp("pool")
    options = PoolOptions(max_samples_per_contributor=25)
    pool = SamplePool(folder, SCHEMA, options)
    for number, (name, step, user) in enumerate(steps):
        if step == "add":
            pool.add(name, _later(user_samples(user, 10), number), f"m{number}")
        elif step == "forget":
            pool.forget(name, f"f{number}")
        elif step == "retain":
            pool.retain()
        else:
            pool.close()
            pool = SamplePool(folder, None, options)
        assert pool.columns.sharers.tolist() == _sharers(pool)
        assert pool.live()[1] == len(pool.live_rows())
    pool.close()


def test_retention_drops_the_oldest_contributions(tmp_path: Path) -> None:
    """By age, by contributor and by number: contributions whose latest sample is oldest go first, whole."""
    start_s = int(user_samples(1).time_s.max())
    options = PoolOptions(max_samples=70, max_samples_per_contributor=50, max_age_days=10)
    pool = SamplePool(tmp_path, SCHEMA, options, clock=lambda: start_s + 11.0 * DAY_S)
    pool.add("ann", user_samples(1), "old")
    for number in range(3):
        pool.add("ann", _later(user_samples(2 + number), (2 + number) * DAY_S), f"a{number}")
        pool.add("bob", _later(user_samples(7 + number, 10), (8 - number) * DAY_S), f"b{number}")
    # By age the first 20; of ann's 60 the oldest 20, as she may have 50; of 70 in all none.
    assert pool.retain() == 40
    assert pool.live() == (2, 70)
    assert pool.retain() == 0
    pool.add("cid", _later(user_samples(20, 1), 9 * DAY_S), "c")
    assert pool.retain() == 20
    live = pool.live_rows()
    assert pool.batch().time_s[live].min() >= start_s + 3.5 * DAY_S


def test_of_too_large_a_contribution_the_latest_samples_are_kept(tmp_path: Path) -> None:
    """One contributor's quota holds within one message too."""
    pool = SamplePool(tmp_path, SCHEMA, PoolOptions(max_samples_per_contributor=7))
    batch = user_samples(1, 20)
    assert pool.add("ann", batch, "m1") == 7
    assert pool.batch().time_s.tolist() == batch.time_s[-7:].tolist()


def test_a_pool_of_an_earlier_version_opens(tmp_path: Path) -> None:
    """What was listed before rows were gets them, in the order it came."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add_many([Given("ann", user_samples(1), "m1"), Given("bob", user_samples(2), "m2")])
    before = [(name, column.copy()) for name, column in pool.batch().columns()]
    pool.close()
    shutil.rmtree(tmp_path / "columns")
    manifest = Manifest(tmp_path)
    with manifest._database.transaction() as database:
        for index in ("contribution_by_row", "contribution_by_time", "contribution_held"):
            database.execute(f"DROP INDEX {index}")
        for column in ("first_row", "newest_s", "received_s", "reason"):
            database.execute(f"ALTER TABLE contribution DROP COLUMN {column}")
    manifest.close()
    again = SamplePool(tmp_path)
    assert all(np.array_equal(dict(again.batch().columns())[name], column) for name, column in before)


@pytest.mark.parametrize("wrong", [{"max_samples": 0}, {"one_item_share": 1.5}, {"max_age_days": -1.0}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, float]) -> None:
    """A bound that makes no sense is an error with the option's name."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PoolOptions(**wrong)  # type: ignore[arg-type]
