"""The pool to a table and back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from cloud_broker.errors import StorageError
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.pool.table_reading import ROWS_A_STEP
from cloud_broker.pool.tables import export_pool, import_table
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema
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
        "6 values where the header names 7 columns": good[:6],
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


HEADER = "contributor,item,genres,liked,disliked,label,time_s"
GOOD = "ann,7,1 2,3,,1,1000"


def _imported(folder: Path, table: bytes) -> tuple[SamplePool, list[tuple[int, str]]]:
    """The pool that a table's rows went into, and which rows were refused."""
    path, errors = folder / "samples.csv", folder / "refused.csv"
    path.write_bytes(table)
    pool = SamplePool(folder / "pool", SCHEMA)
    import_table(pool, path, errors)
    with errors.open(newline="") as file:
        return pool, [(int(line["row"]), line["error"]) for line in csv.DictReader(file)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """As spreadsheets write it."""
    pool, refused = _imported(tmp_path, f"\ufeff{HEADER}\r\n{GOOD}\r\n".encode())
    assert (pool.live(), refused) == ((1, 1), [])


def test_names_that_are_not_utf8_do_not_become_one(tmp_path: Path) -> None:
    """Two contributors of a table in another encoding would share what they gave; each row is refused."""
    rows = b"\n".join([HEADER.encode(), b"Jos\xe9,7,1,,,1,1000", b"Jos\xe8,7,1,,,1,1000", GOOD.encode()])
    pool, refused = _imported(tmp_path, rows)
    assert list(pool.contributor_names().values()) == ["ann"]
    assert [row for row, _ in refused] == [1, 2]
    assert refused[0][1] == r"contributor: 'Jos\udce9' is not UTF-8"


def test_a_row_that_is_no_csv_leaves_the_others(tmp_path: Path) -> None:
    """A value beyond what a reader takes, and rows of another width than the header, are refused by themselves."""
    wide = f'bob,7,1,"{"1 " * 70_000}",,1,5'
    rows = [HEADER, wide, f"{GOOD},9", "ann,7,1 2,3,,1", "", GOOD]
    pool, refused = _imported(tmp_path, "\n".join(rows).encode())
    assert pool.live() == (1, 1)
    assert refused == [
        (1, "not CSV: field larger than field limit (131072)"),
        (2, "8 values where the header names 7 columns"),
        (3, "6 values where the header names 7 columns"),
    ]


def test_a_column_that_is_there_twice_is_refused(pool: SamplePool, tmp_path: Path) -> None:
    """Which of both is meant cannot be known."""
    table = tmp_path / "samples.csv"
    table.write_text(f"{HEADER},item\n{GOOD},8\n")
    with pytest.raises(StorageError, match="has the columns item more than once"):
        import_table(pool, table)


def test_the_table_itself_does_not_take_the_errors(pool: SamplePool, tmp_path: Path) -> None:
    """It would be emptied before it is read."""
    table = tmp_path / "samples.csv"
    table.write_text(f"{HEADER}\n{GOOD}\n")
    with pytest.raises(StorageError, match="is the table itself"):
        import_table(pool, table, table)
    assert table.read_text() == f"{HEADER}\n{GOOD}\n"


def test_parquet_values_of_another_type_are_refused_row_by_row(tmp_path: Path) -> None:
    """A number or bytes for a list, a name that is missing or bytes; number 0 is a name."""
    table, errors = tmp_path / "samples.parquet", tmp_path / "refused.csv"
    names = arrow.array([0.0, float("nan"), None], arrow.float64())
    same = {"item": [1, 2, 3], "genres": [[1]] * 3, "disliked": [[]] * 3, "label": [1, 0, 1], "time_s": [1, 2, 3]}
    parquet.write_table(arrow.table({"contributor": names, "liked": [[1]] * 3, **same}), table)
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    assert import_table(pool, table, errors).refused == 2
    assert list(pool.contributor_names().values()) == ["0.0"]
    for number, liked in enumerate([[5, 6, 7], [b"\x01", b"\x02", b"\x03"]]):
        parquet.write_table(arrow.table({"contributor": [0, 1, 2], "liked": liked, **same}), table)
        assert import_table(pool, table, errors).refused == 3, number
        assert '1,"liked: a list, or text parted by spaces' in errors.read_text()
    parquet.write_table(arrow.table({"contributor": [b"a"] * 3, "liked": [[1]] * 3, **same}), table)
    assert import_table(pool, table, errors).refused == 3


def test_a_parquet_that_is_damaged_inside_is_said(pool: SamplePool, tmp_path: Path) -> None:
    """Which file cannot be read; not the file of errors, which can be written."""
    table = tmp_path / "samples.parquet"
    export_pool(pool, table)
    damaged = bytearray(table.read_bytes())
    damaged[4:60] = bytes(56)
    table.write_bytes(damaged)
    with pytest.raises(StorageError, match=r"cannot read .*samples\.parquet"):
        import_table(pool, table, tmp_path / "refused.csv")


def test_a_number_too_large_for_a_feature_is_refused(tmp_path: Path) -> None:
    """It would be infinite as 32-bit number; the other rows go in."""
    pool = SamplePool(tmp_path / "pool", FeatureSchema((Feature("x", FeatureKind.DENSE, length=2),)))
    table = tmp_path / "samples.csv"
    table.write_text("contributor,x,label,time_s\nann,1e39 0,1,1\nann,3e38 0,1,1\n")
    done = import_table(pool, table)
    assert (done.added, done.refused) == (1, 1)


@KINDS
def test_a_pool_whose_first_rows_have_no_ids_comes_back(tmp_path: Path, kind: str) -> None:
    """What a column holds does not follow from its first rows; nor is a table missing for want of rows."""
    schema = FeatureSchema((Feature("tags", FeatureKind.MULTIVALUED, length=2, vocabulary=9, table="tag"),))
    pool, table = SamplePool(tmp_path / "pool", schema), tmp_path / f"pool.{kind}"
    assert export_pool(pool, table) == 0
    assert import_table(pool, table).rows == 0
    for name, tag, count in (("ann", 0, ROWS_A_STEP), ("bob", 3, 1)):
        tags = np.full((count, 2), tag, np.int32)
        pool.add(name, SampleBatch(schema, {"tags": tags}, np.ones(count, np.float32), np.arange(count)), "m1")
    assert export_pool(pool, table) == ROWS_A_STEP + 1
    other = SamplePool(tmp_path / "other", schema)
    assert import_table(other, table).added == ROWS_A_STEP + 1
    assert np.array_equal(other.batch().features["tags"], pool.batch().features["tags"])


def test_a_feature_named_as_a_column_of_the_pool_is_refused(tmp_path: Path) -> None:
    """It would be overwritten by the contributors' numbers, which never leave."""
    schema = FeatureSchema((Feature("contributor", FeatureKind.CATEGORICAL, vocabulary=9, table="c"),))
    with pytest.raises(StorageError, match="named contributor"):
        SamplePool(tmp_path / "pool", schema)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_export_that_fails_leaves_the_table_of_before(pool: SamplePool, tmp_path: Path, kind: str) -> None:
    """A table is replaced when the new one is whole, and what was written of that is gone."""
    table = tmp_path / f"pool.{kind}"
    export_pool(pool, table)
    before = table.read_bytes()

    def failing(_done: int, _total: int) -> None:
        raise StorageError("no more")

    with pytest.raises(StorageError, match="no more"):
        export_pool(pool, table, failing)
    assert table.read_bytes() == before
    assert [path.name for path in tmp_path.glob(f"*pool.{kind}*")] == [table.name]
