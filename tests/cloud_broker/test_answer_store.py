"""Answers that wait to be pulled: whose they are, how long they stay, and what forgetting a contributor removes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_broker.errors import UnknownBlobError
from cloud_broker.workers.answer_store import LIFETIME_S, MOST_OF_A_DEVICE, AnswerStore
from protocol.chunks import blob_ref
from protocol.errors import MalformedMessageError
from tests.protocol.strategies import PROPERTY


def numbers(*contributors: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Contributors' numbers."""
    return np.array(contributors, np.int32)


@PROPERTY
@given(data=st.binary(min_size=1, max_size=9000), contributors=st.lists(st.integers(0, 2**31 - 1), max_size=5))
def test_what_is_put_comes_out_whole_and_in_chunks(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, contributors: list[int]
) -> None:
    """Whoever has the store open gets the bytes, whatever else the file holds."""
    folder = tmp_path_factory.mktemp("answers")
    ref = AnswerStore(folder).put(data, "dev-a", numbers(*contributors))
    store = AnswerStore(folder)
    assert ref == blob_ref(data)
    assert store.get(ref.sha256, "dev-a") == data
    chunks = store.chunks(ref.sha256, "dev-a", range(-(-len(data) // 4096)), 4096)
    assert b"".join(chunk.data for chunk in chunks) == data
    with pytest.raises(MalformedMessageError, match="no chunk"):
        store.chunks(ref.sha256, "dev-a", [len(chunks)], 4096)


@pytest.mark.parametrize(("sha256", "device"), [(None, "dev-b"), ("0" * 64, "dev-a"), ("../dev-a", "dev-b")])
def test_what_is_not_there_for_a_device_is_unknown(tmp_path: Path, sha256: str | None, device: str) -> None:
    """Neither another device's, nor one that is not there, nor a name that leads elsewhere."""
    store = AnswerStore(tmp_path)
    ref = store.put(b"answer", "dev-a")
    with pytest.raises(UnknownBlobError, match="no blob"):
        store.get(sha256 or ref.sha256, device)
    assert store.holds(ref.sha256, "dev-a")


@pytest.mark.parametrize("spoilt", [b"", b"\0" * 30, b"CAN1\xff\xff\xff\xffanswer", b"CAN1\0\0\0\0other"])
def test_what_a_power_cut_spoilt_is_not_given_out(tmp_path: Path, spoilt: bytes) -> None:
    """The bytes are compared with their name by each process that opens them, and asking again mends it."""
    ref = AnswerStore(tmp_path).put(b"answer", "dev-a")
    path = tmp_path / "answers" / "dev-a" / ref.sha256
    path.write_bytes(spoilt)
    store = AnswerStore(tmp_path)
    assert store.forget(7) == 0
    assert not store.holds(ref.sha256, "dev-a")
    store.put(b"answer", "dev-a")
    assert store.get(ref.sha256, "dev-a") == b"answer"


def test_forgetting_a_contributor_removes_what_holds_its_samples(tmp_path: Path) -> None:
    """For every worker, and nothing else; one that is being written is left to its writer."""
    store, other = AnswerStore(tmp_path), AnswerStore(tmp_path)
    with_it, without = store.put(b"one", "dev-a", numbers(7, 3, 7)), store.put(b"two", "dev-a", numbers(3))
    rows = store.put(b"rows", "dev-b")
    assert other.get(with_it.sha256, "dev-a") == b"one"
    assert store.forget(7) == 1
    assert not other.holds(with_it.sha256, "dev-a")
    assert other.holds(without.sha256, "dev-a")
    assert other.holds(rows.sha256, "dev-b")


def test_answers_expire(tmp_path: Path) -> None:
    """They are not given out any more, and then their files and folders are removed."""
    now_s = [1000.0]
    store = AnswerStore(tmp_path, clock=lambda: now_s[0])
    old = store.put(b"old", "dev-a")
    now_s[0] += LIFETIME_S - 1
    new = store.put(b"new", "dev-b")
    assert store.holds(old.sha256, "dev-a")
    now_s[0] += 1
    assert not store.holds(old.sha256, "dev-a")
    assert store.expire() == 1
    assert store.holds(new.sha256, "dev-b")
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["dev-b"]


def test_a_device_fills_no_disk(tmp_path: Path) -> None:
    """Of each device the latest answers are kept."""
    now_s = [0.0]
    store = AnswerStore(tmp_path, clock=lambda: now_s[0])
    refs = []
    for number in range(MOST_OF_A_DEVICE + 3):
        now_s[0] += 1
        refs.append(store.put(b"%d" % number, "dev-a"))
    assert [store.holds(ref.sha256, "dev-a") for ref in refs] == [False] * 3 + [True] * MOST_OF_A_DEVICE
