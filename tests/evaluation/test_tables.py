"""Any table: by its columns' names, whatever is wrong with some of its rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.datasets import load_dataset
from evaluation.errors import DataFormatError
from evaluation.interactions import Interactions, some_users
from evaluation.samples import NEGATIVES, Labels, build_samples
from evaluation.tables import TableOptions, read_table
from protocol.schema import FeatureKind

_COLUMNS = TableOptions(user="u", item="i", rating="r", time="t", threshold=4)


def _read(folder: Path, text: str | bytes, options: TableOptions = _COLUMNS, name: str = "log.csv") -> Interactions:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(file, options)


def _rows(data: Interactions) -> list[tuple[str, str, float, int]]:
    return [
        (data.user_names[u], data.item_names[i], float(r), int(t))
        for u, i, r, t in zip(data.user, data.item, data.rating, data.time_s, strict=True)
    ]


def test_rows_are_sorted_by_user_and_time(tmp_path: Path) -> None:
    """Users and items keep their names, whatever these are; shuffled time is counted."""
    data = _read(tmp_path, "t,u,i,r\n9,ann,x-1,5\n3,ann,x-2,2\n4,bob,x-1,4\n")
    assert _rows(data) == [("ann", "x-2", 2, 3), ("ann", "x-1", 5, 9), ("bob", "x-1", 4, 4)]
    assert data.liked.tolist() == [False, True, True]
    assert data.reading.rows == 3
    assert list(data.reading.remarks.values()) == [1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Quoted cells may hold it."""
    text = 'u,i,r,t,note\nann,x,5,1,"a{0} b"\n'.replace(",", delimiter).format(delimiter)
    assert _rows(_read(tmp_path, text)) == [("ann", "x", 5, 1)]


def test_rows_that_cannot_be_used_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Each reason with its count and the first such row; repeated rows are counted too."""
    bad = ["ann,y,five,2", "ann,y,nan,2", ",y,5,2", "ann,,5,2", "ann,y,5,soon", "ann,y,5,", "ann,y", "a,b,5,2,9"]
    data = _read(tmp_path, "\n".join(["u,i,r,t", "ann,x,5,1", *bad, "ann,x,3,8", "bob,y,1,1"]) + "\n")
    assert _rows(data) == [("ann", "x", 5, 1), ("bob", "y", 1, 1)]
    assert data.duplicates == 1
    assert data.reading.left_out == {
        "another number of columns than the header has": 2,
        "no user": 1,
        "no item": 1,
        "r is not a number": 2,
        "t is not a time": 2,
    }
    assert data.reading.first_at["r is not a number"] == 2
    assert data.reading.rows == 11
    assert any("left out 2 of 11 rows: t is not a time (first at row 6)" in line for line in data.reading.lines())


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (("1600000000", "1600000001"), (1600000000, 1600000001)),
        (("1600000000123", "1600000001999"), (1600000000, 1600000001)),
        (("1600000000000000", "1600000001000000"), (1600000000, 1600000001)),
        (("1600000000000000000", "1600000001000000000"), (1600000000, 1600000001)),
        (("2020-09-13T12:26:40Z", "2020-09-13 14:26:41+02:00"), (1600000000, 1600000001)),
        (("2020-09-13", "2020-09-14"), (1599955200, 1600041600)),
        (("-5", "-3.5"), (-5, -4)),
        (("1.6e9", "1600000001.7"), (1600000000, 1600000001)),
    ],
)
def test_times_of_any_usual_form_are_read(tmp_path: Path, times: tuple[str, str], seconds: tuple[int, int]) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds, ISO 8601 with and without a zone, before 1970."""
    data = _read(tmp_path, f"u,i,r,t\nann,x,5,{times[0]}\nann,y,5,{times[1]}\n")
    assert data.time_s.tolist() == list(seconds)


def test_without_a_time_rows_are_in_order(tmp_path: Path) -> None:
    """And without a rating, every row is a positive."""
    data = _read(tmp_path, "u,i\nann,x\nann,y\n", TableOptions(user="u", item="i"))
    assert [data.item_names[i] for i in data.item] == ["x", "y"]
    assert data.liked.all()
    assert "no --time: rows count as in time order" in data.reading.notes


def test_a_label_is_one_or_zero(tmp_path: Path) -> None:
    """Words for it too; anything else is left out."""
    options = TableOptions(user="u", item="i", label="y", time="t")
    data = _read(tmp_path, "u,i,y,t\na,1,1,1\na,2,0,2\na,3,True,3\na,4,no,4\na,5,2,5\n", options)
    assert data.liked.tolist() == [True, False, True, False]
    assert data.reading.left_out == {"y is neither 0 nor 1": 1}


def test_bytes_that_are_no_utf8_keep_names_apart(tmp_path: Path) -> None:
    """They become escapes, and are counted; a byte order mark is none of the header."""
    data = _read(tmp_path, b"\xef\xbb\xbfu,i,r,t\ncaf\xe9,x,5,1\ncaf\xe8,x,5,1\n")
    assert data.user_names == ("caf\\xe9", "caf\\xe8")
    assert list(data.reading.remarks.values()) == [2]


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("", _COLUMNS, "is empty"),
        ("u,i,r,t\n", _COLUMNS, "has no rows"),
        ("u,i,r,t\n,,,\n", _COLUMNS, "no row can be used: left out 1 of 1 rows: no user"),
        ("user,i,r,t\na,b,1,1\n", _COLUMNS, "no column 'u': there are user, i, r, t"),
        ("usr,i\na,b\n", TableOptions(user="user", item="i"), "did you mean usr"),
        ("a,b\n1,2\n", TableOptions(), "give --user and --item"),
        ("u,i\na,b\n", TableOptions(user="u", item="i", features=("i=round",)), "round is no kind"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, options: TableOptions, named: str) -> None:
    """The message says what is wrong and what there is."""
    with pytest.raises(DataFormatError, match=named):
        _read(tmp_path, text, options)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    """And says which are known."""
    with pytest.raises(DataFormatError, match=r"\.csv.*\.parquet"):
        _read(tmp_path, "x", name="log.xls")


def _amazon(n: int) -> str:
    review = {"reviewerID": f"A{n % 3}", "asin": f"B{n}", "overall": 5.0, "unixReviewTime": 1400000000 + n}
    return json.dumps({**review, "reviewText": "good"})


@pytest.mark.parametrize("compressed", [False, True])
def test_amazons_reviews_need_no_columns_named(tmp_path: Path, compressed: bool) -> None:
    """Five-core JSON lines, gzip too; a broken line is counted."""
    text = "\n".join([*(_amazon(n) for n in range(6)), '{"reviewerID": "A', "[1]", ""]) + "\n"
    file = tmp_path / ("reviews_Electronics_5.json" + (".gz" if compressed else ""))
    file.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    data = load_dataset(str(file))
    assert (data.name, data.users, data.items, len(data)) == ("reviews_Electronics_5", 3, 6, 6)
    assert data.reading.left_out == {"not a JSON object on one line": 2}
    assert data.liked.all()


def test_half_a_gzip_file_is_refused(tmp_path: Path) -> None:
    """A download that broke off is no data."""
    whole = gzip.compress("\n".join(_amazon(n) for n in range(4000)).encode())
    with pytest.raises(DataFormatError, match="not a whole gzip file"):
        _read(tmp_path, whole[: len(whole) // 2], TableOptions(), "a.json.gz")


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    """With its own types: missing values, times, lists."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    moments = pyarrow.array([1_600_000_000_000, 1_600_000_005_000, None], pyarrow.timestamp("ms"))
    columns = {"u": [7, 7, 8], "i": ["x", "y", "x"], "r": [5.0, 1.0, 5.0], "t": moments, "tags": [["a", "b"], [], None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "log.parquet")
    options = TableOptions(user="u", item="i", rating="r", time="t", threshold=4, features=("tags",))
    data = read_table(tmp_path / "log.parquet", options)
    assert _rows(data) == [("7", "x", 5, 1600000000), ("7", "y", 1, 1600000005)]
    assert data.columns[0].values[1, :3].tolist() == [1, 2, 0]
    with pytest.raises(DataFormatError, match="not a Parquet file"):
        _read(tmp_path, "nothing", name="b.parquet")


_FEATURES = """u,i,t,brand,tags,price,hour
a,x,1,acme,p|q,1.5,9
a,y,2,blue,q,2.5,10
b,x,3,acme,p|q,1.5,11
b,z,4,,,oops,9
b,y,5,blue,q,2.5,9
"""


def test_features_are_read_by_kind_and_owner(tmp_path: Path) -> None:
    """Of the item where all its rows agree, else of the event; missing ids are 0, missing numbers the mean."""
    options = TableOptions(user="u", item="i", time="t", features=("brand", "tags", "price=dense", "hour"))
    data = _read(tmp_path, _FEATURES, options)
    brand, tags, price, hour = data.columns
    assert [c.feature.kind for c in data.columns] == [
        FeatureKind.CATEGORICAL,
        FeatureKind.MULTIVALUED,
        FeatureKind.DENSE,
        FeatureKind.CATEGORICAL,
    ]
    assert [c.of_item for c in data.columns] == [True, True, True, False]
    assert brand.values.tolist() == [0, 1, 2, 0]
    assert tags.values[:, :2].tolist() == [[0, 0], [1, 2], [2, 0], [0, 0]]
    assert price.values[1, 0] < 0 < price.values[2, 0]
    assert price.values[3, 0] == 0
    assert len(hour.values) == len(data)
    assert "1 cells of price are no number, read as its mean" in data.reading.lines()


def test_a_negative_has_its_items_features_and_its_positives_event(tmp_path: Path) -> None:
    """In one schema with items and histories."""
    rows = "".join(f"u{n % 9},i{n * 7 % 40},{n},b{n * 7 % 40 % 5},h{n % 3}\n" for n in range(300))
    options = TableOptions(user="u", item="i", time="t", features=("brand", "hour"))
    data = _read(tmp_path, "u,i,t,brand,hour\n" + rows, options)
    batch = build_samples(data, Labels.IMPLICIT).batch
    assert batch.features["brand"].tolist() == data.columns[0].values[batch.features["item"]].tolist()
    hours = batch.features["hour"].reshape(-1, 1 + NEGATIVES)
    assert (hours == hours[:, :1]).all()
    assert {f.name for f in batch.schema.features} >= {"item", "liked", "brand", "hour"}


def test_some_users_are_whole_users(tmp_path: Path) -> None:
    """Drawn by the seed; items keep their numbers."""
    rows = "".join(f"u{n % 9},i{n % 40},{n},h{n % 3}\n" for n in range(300))
    data = _read(tmp_path, "u,i,t,hour\n" + rows, TableOptions(user="u", item="i", time="t", features=("hour",)))
    few = some_users(data, 3)
    assert few.users == 3
    assert few.items == data.items
    for number, name in enumerate(few.user_names):
        theirs, ours = data.user == data.user_names.index(name), few.user == number
        assert data.item[theirs].tolist() == few.item[ours].tolist()
        assert data.columns[0].values[theirs].tolist() == few.columns[0].values[ours].tolist()
    assert np.array_equal(some_users(data, 3).user, few.user)
    assert some_users(data, 99) is data
