"""The pool: durable when `add` returns, each sample once, readable while it grows."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_broker.errors import StorageError
from cloud_broker.pool.columns import FORGOTTEN
from cloud_broker.pool.sample_pool import Given, SamplePool
from protocol.batch_codec import encode_batch
from protocol.errors import MalformedMessageError, SchemaMismatchError
from protocol.samples import SampleBatch, concatenate
from protocol.schema import FeatureSchema
from tests.cloud_broker.samples import SCHEMA, user_samples


def _equal(one: SampleBatch, other: SampleBatch) -> bool:
    pairs = zip(one.columns(), other.columns(), strict=True)
    return all(np.array_equal(left, right) for (_, left), (_, right) in pairs)


def test_samples_come_back_by_row_after_a_restart(tmp_path: Path) -> None:
    """Rows keep their order, contributors and keys over a restart."""
    pool = SamplePool(tmp_path, SCHEMA)
    assert pool.add("ann", user_samples(1), "m1") == 20
    assert pool.add("bob", user_samples(2), "m2") == 20
    keys = pool.content_keys.copy()
    pool.close()
    reopened = SamplePool(tmp_path)
    assert _equal(reopened.batch(), concatenate([user_samples(1), user_samples(2)]))
    assert (
        reopened.contributors.tolist()
        == [reopened.contributor_number("ann")] * 20 + [reopened.contributor_number("bob")] * 20
    )
    assert np.array_equal(reopened.content_keys, keys)
    assert _equal(
        reopened.take(np.array([25, 3])), concatenate([user_samples(1), user_samples(2)]).take(np.array([25, 3]))
    )


def test_a_message_counts_once(tmp_path: Path) -> None:
    """The same contributor's message id adds nothing again, now or after a restart; another's does."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    assert pool.add("ann", user_samples(3), "m1") == 0
    pool.close()
    reopened = SamplePool(tmp_path)
    assert reopened.add("ann", user_samples(3), "m1") == 0
    assert reopened.add("bob", user_samples(3), "m1") == 20
    assert len(reopened) == 40


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=8), st.booleans()), max_size=6))
def test_every_sample_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, gifts: list[tuple[str, list[int], bool]]
) -> None:
    """Whatever overlaps contributors send, in one call or in several with restarts between, a sample is there once."""
    folder = tmp_path_factory.mktemp("pool")
    pool, source = SamplePool(folder, SCHEMA), user_samples(1, 10)
    for number, (contributor, rows, restart) in enumerate(gifts):
        pool.add(contributor, source.take(np.array(rows, int)), f"m{number}")
        if restart:
            pool.close()
            pool = SamplePool(folder)
    together = SamplePool(tmp_path_factory.mktemp("pool"), SCHEMA)
    together.add_many(Given(name, source.take(np.array(rows, int)), f"m{n}") for n, (name, rows, _) in enumerate(gifts))
    expected = {(name, source.time_s[row]) for name, rows, _ in gifts for row in rows}
    for each in (pool, together):
        names = {each.contributor_number(name): name for name in "ab"}
        got = [(names[number], time_s) for number, time_s in zip(each.contributors, each.batch().time_s, strict=True)]
        assert len(got) == len(set(got)) == len(expected)
        assert set(got) == expected
        each.close()


def test_equal_content_has_equal_keys_whoever_and_whenever(tmp_path: Path) -> None:
    """Keys are of features and label: time and contributor do not count, any feature does."""
    pool, one = SamplePool(tmp_path, SCHEMA), user_samples(1, 1)
    later = SampleBatch(SCHEMA, one.features, one.label, one.time_s + 5)
    other_label = SampleBatch(SCHEMA, one.features, 1 - one.label, one.time_s)
    other_item = SampleBatch(SCHEMA, {**one.features, "item": one.features["item"] % 60 + 1}, one.label, one.time_s)
    pool.add_many(
        [Given(name, batch, "m") for name, batch in zip("abcd", [one, later, other_label, other_item], strict=True)]
    )
    first, second, third, fourth = pool.content_keys.tolist()
    assert first == second
    assert len({first, third, fourth}) == 3


def test_a_view_stays_as_it_was_while_the_pool_grows(tmp_path: Path) -> None:
    """A reader's batch does not change when samples are added beyond the capacity."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1, 30), "m1")
    before = pool.batch()
    pool.add("bob", user_samples(2, 3000), "m2")
    assert _equal(before, user_samples(1, 30))
    assert len(pool) == 3030


def test_time_order(tmp_path: Path) -> None:
    """Rows by event time, whatever the order of arrival."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    pool.add("bob", user_samples(2), "m2")
    times = pool.batch().time_s[pool.time_order()]
    assert np.array_equal(times, np.sort(times))


def test_samples_of_other_features_are_refused(tmp_path: Path) -> None:
    """Another schema is refused, nothing of the call is kept, and the pool cannot be opened with it."""
    pool = SamplePool(tmp_path, SCHEMA)
    other = FeatureSchema(SCHEMA.features[:1])
    stranger = SampleBatch(other, {"item": np.ones(1, np.int32)}, np.ones(1, np.float32), np.ones(1, np.int64))
    with pytest.raises(SchemaMismatchError, match="takes samples of schema"):
        pool.add_many([Given("ann", user_samples(1), "m1"), Given("bob", stranger, "m2")])
    assert len(pool) == 0
    with pytest.raises(SchemaMismatchError, match="use another directory"):
        SamplePool(tmp_path, other)


def test_a_bad_value_keeps_the_whole_call_out(tmp_path: Path) -> None:
    """An id beyond its vocabulary is refused before anything is written."""
    pool, good = SamplePool(tmp_path, SCHEMA), user_samples(1, 1)
    bad = SampleBatch(SCHEMA, {**good.features, "item": np.array([999], np.int32)}, good.label, good.time_s)
    with pytest.raises(MalformedMessageError):
        pool.add_many([Given("ann", good, "m1"), Given("bob", bad, "m2")])
    assert len(pool) == 0
    assert pool.add("ann", good, "m1") == 1


def test_a_pool_must_be_filled_first(tmp_path: Path) -> None:
    """Opening what is not there, without a schema, is a clear error."""
    with pytest.raises(StorageError, match="fill it first"):
        SamplePool(tmp_path)


def test_what_a_crash_left_half_written_is_cut_off(tmp_path: Path) -> None:
    """Bytes behind the last listed contribution vanish, and later ones are sound."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    pool.close()
    (segment,) = (tmp_path / "segments").iterdir()
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"half a record")
    reopened = SamplePool(tmp_path)
    assert segment.read_bytes() == whole
    reopened.add("bob", user_samples(2), "m2")
    reopened.close()
    assert _equal(SamplePool(tmp_path).batch(), concatenate([user_samples(1), user_samples(2)]))


@pytest.mark.parametrize("damage", ["cut", "change", "remove"])
def test_a_damaged_segment_is_reported(tmp_path: Path, damage: str) -> None:
    """A pool whose listed bytes are not there does not open as if nothing were; changed ones show when read."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    pool.close()
    (segment,) = (tmp_path / "segments").iterdir()
    whole = segment.read_bytes()
    if damage == "remove":
        segment.unlink()
    else:
        segment.write_bytes(whole[:-1] if damage == "cut" else b"XXXX" + whole[4:])
    if damage == "change":
        shutil.rmtree(tmp_path / "columns")
    with pytest.raises(StorageError):
        SamplePool(tmp_path)


def test_an_added_sample_survives_sigkill(tmp_path: Path) -> None:
    """A process killed right after `add` returned has lost nothing."""
    script = (
        "import os, signal, sys; from pathlib import Path; from cloud_broker.pool.sample_pool import SamplePool\n"
        "from tests.cloud_broker.samples import SCHEMA, user_samples\n"
        "SamplePool(Path(sys.argv[1]), SCHEMA).add('ann', user_samples(1), 'm1'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path.cwd(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert _equal(SamplePool(tmp_path).batch(), user_samples(1))


def test_what_a_contributor_gave_can_be_deleted(tmp_path: Path) -> None:
    """Its rows are nobody's and empty at once, gone after a restart, and its bytes are on no disk."""
    pool = SamplePool(tmp_path, SCHEMA)
    for name, user in (("ann", 1), ("bob", 2), ("ann", 3)):
        pool.add(name, user_samples(user), f"m{user}")
    (segment,) = (tmp_path / "segments").iterdir()
    given = encode_batch(user_samples(3))
    assert given in segment.read_bytes()
    assert pool.forget("ann", "f1") == 40
    assert given not in segment.read_bytes()
    assert pool.contributors.tolist() == [FORGOTTEN] * 20 + [pool.contributor_number("bob")] * 20 + [FORGOTTEN] * 20
    assert not pool.take(np.arange(20)).features["item"].any()
    pool.close()
    reopened = SamplePool(tmp_path)
    assert _equal(reopened.batch(), user_samples(2))
    reopened.add("cid", user_samples(4), "m4")
    reopened.close()
    assert _equal(SamplePool(tmp_path).batch(), concatenate([user_samples(2), user_samples(4)]))


def test_deleting_happens_once_and_old_messages_stay_deleted(tmp_path: Path) -> None:
    """A request that comes again spares what was given since; a contribution that comes again is not taken back."""
    pool = SamplePool(tmp_path, SCHEMA)
    assert pool.forget("ann", "f0") == 0
    pool.add("ann", user_samples(1), "m1")
    assert pool.forget("ann", "f1") == 20
    assert pool.add("ann", user_samples(1), "m1") == 0
    assert pool.add("ann", user_samples(1), "m2") == 20
    pool.close()
    reopened = SamplePool(tmp_path)
    assert reopened.forget("ann", "f1") == 0
    assert _equal(reopened.batch(), user_samples(1))


def test_erasing_goes_on_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken off the list but not yet erased is erased when the pool is next opened."""
    pool = SamplePool(tmp_path, SCHEMA)
    pool.add("ann", user_samples(1), "m1")
    pool.add("bob", user_samples(2), "m2")
    with monkeypatch.context() as patch:
        patch.setattr(pool._eraser, "erase", lambda _columns: 0)
        pool.forget("ann", "f1")
    pool.close()
    (segment,) = (tmp_path / "segments").iterdir()
    assert encode_batch(user_samples(1)) in segment.read_bytes()
    assert _equal(SamplePool(tmp_path).batch(), user_samples(2))
    assert encode_batch(user_samples(1)) not in segment.read_bytes()
