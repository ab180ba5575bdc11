"""Rows of tables on the device's disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import RoundError, StoreError
from edge.storage import rows as rows_module
from edge.storage.arrays import pack_arrays, pack_rows, unpack_rows
from edge.storage.store import Store
from protocol.rows import RowBlock

OLD, NEW = "a" * 64, "b" * 64


def block(version: str, *ids: int) -> RowBlock:
    """Rows that say whose they are."""
    numbers = np.array(ids, np.int32)
    return RowBlock(version, numbers, np.outer(numbers, [1, 10]).astype(np.float32))


def test_rows_survive_and_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """After a restart they are there bit by bit; a version does not answer for another."""
    with Store(tmp_path) as store:
        store.rows.put(block(OLD, 0, 7, 70_000))
        store.rows.put(block(NEW, 7))
    with Store(tmp_path) as store:
        ids = np.array([70_000, 0], np.int32)
        assert store.rows.rows(OLD, ids).tolist() == [[70_000, 700_000], [0, 0]]
        assert store.rows.missing(NEW, np.array([0, 7, 9], np.int32)).tolist() == [0, 9]
        with pytest.raises(RoundError, match=r"1 of 2 rows of version b{12} are not here: \[0\]"):
            store.rows.rows(NEW, np.array([7, 0], np.int32))


def test_rows_of_other_versions_are_forgotten(tmp_path: Path) -> None:
    """What no model here can use does not stay."""
    with Store(tmp_path) as store:
        store.rows.put(block(OLD, 1, 2))
        store.rows.put(block(NEW, 1))
        store.rows.keep_only({NEW})
        assert len(store.rows.missing(OLD, np.array([1, 2], np.int32))) == 2
        assert len(store.rows.missing(NEW, np.array([1], np.int32))) == 0


def test_rows_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest give way; a row that came again is new."""
    monkeypatch.setattr(rows_module, "MAX_ROWS", 3)
    with Store(tmp_path) as store:
        store.rows.put(block(OLD, 1, 2, 3))
        store.rows.put(block(OLD, 1))
        store.rows.put(block(OLD, 4))
        assert store.rows.missing(OLD, np.arange(5, dtype=np.int32)).tolist() == [0, 2]


def test_damaged_rows_are_told() -> None:
    """Arrays that are no rows are not taken for some."""
    assert unpack_rows(pack_rows(block(OLD, 3))).ids.tolist() == [3]
    with pytest.raises(StoreError, match="damaged"):
        unpack_rows(pack_arrays({"ids": np.zeros(1)}))
