"""The pool to a table and back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cloud_broker.errors import StorageError
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.pool.tables import export_pool, import_table
from tests.cloud_broker.samples import SCHEMA, user_samples

KINDS = pytest.mark.parametrize("kind", ["csv", "parquet"])


@pytest.fixture
def pool(tmp_path: Path) -> SamplePool:
    """Three contributors, one of them forgotten."""
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    for user, name in enumerate(["ann", "bob, jr.", "cid"]):
        pool.add(name, user_samples(user), "m1")
    pool.forget("cid", "f1")
    return pool


@KINDS
def test_what_is_exported_comes_back(pool: SamplePool, tmp_path: Path, kind: str) -> None:
    """Samples and their contributors are the same in another pool; forgotten ones are not in the table."""
    table, told = tmp_path / f"pool.{kind}", []
    assert export_pool(pool, table, lambda done, total: told.append((done, total))) == 40
    assert told == [(40, 40)]
    other = SamplePool(tmp_path / "other", SCHEMA)
    done = import_table(other, table)
    assert (done.rows, done.added, done.refused) == (40, 40, 0)
    live = pool.live_rows()
    assert all(
        np.array_equal(column, there[live])
        for (_, column), (_, there) in zip(other.batch().columns(), pool.batch().columns(), strict=True)
    )
    assert [other.contributor_names()[number] for number in other.contributors] == ["ann"] * 20 + ["bob, jr."] * 20


@KINDS
def test_importing_again_adds_nothing(pool: SamplePool, tmp_path: Path, kind: str) -> None:
    """Neither the same table nor samples that the pool has."""
    table = tmp_path / f"pool.{kind}"
    export_pool(pool, table)
    assert import_table(pool, table).added == 0
    assert import_table(pool, table).added == 0
    assert pool.live()[1] == 40


def test_rows_that_cannot_be_used_are_told_and_the_others_go_in(tmp_path: Path) -> None:
    """Each bad row's number and reason are in the file of errors; the good rows are in the pool."""
    table, errors = tmp_path / "samples.csv", tmp_path / "refused.csv"
    good = ["ann", "7", "1 2", "3", "", "1", "1000"]
    bad = {
        "contributor: a name": ["", *good[1:]],
        "item: ids are whole numbers from 0 to 60, got '61'": ["ann", "61", *good[2:]],
        "item: a number is required, got 'seven'": ["ann", "seven", *good[2:]],
        "genres: at most 2 ids, got 3": ["ann", "7", "1 2 3", *good[3:]],
        "label: must be 0 or 1, got '0.5'": [*good[:5], "0.5", "1000"],
        "time_s: unix seconds are required, got '-1'": [*good[:6], "-1"],
        "time_s: a finite number": [*good[:6], "nan"],
        "time_s: a number is required, got None": good[:6],
    }
    header = ["contributor", "item", "genres", "liked", "disliked", "label", "time_s"]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([header, *bad.values(), good])
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    done = import_table(pool, table, errors)
    assert (done.rows, done.added, done.refused) == (9, 1, 8)
    with errors.open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [int(line["row"]) for line in told] == list(range(1, 9))
    assert all(line["error"].startswith(reason) for line, reason in zip(told, bad, strict=True))
    assert pool.batch().features["liked"].tolist() == [[0, 0, 0, 3]]
    assert pool.batch().features["genres"].tolist() == [[1, 2]]


def test_a_table_that_lacks_a_column_is_refused(pool: SamplePool, tmp_path: Path) -> None:
    """What is missing, and what is needed, is said; so is that a file is not there or no Parquet."""
    table = tmp_path / "samples.csv"
    table.write_text("contributor,item\nann,1\n")
    with pytest.raises(StorageError, match="lacks the columns genres, liked, disliked, label, time_s"):
        import_table(pool, table)
    with pytest.raises(StorageError, match="cannot read"):
        import_table(pool, tmp_path / "none.csv")
    (tmp_path / "none.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StorageError, match="cannot read"):
        import_table(pool, tmp_path / "none.parquet")
