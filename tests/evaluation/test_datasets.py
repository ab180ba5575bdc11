"""Datasets: found, read, refused with a reason, fetched whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from evaluation import datasets
from evaluation.datasets import PUBLISHED, load_dataset, search_path
from evaluation.download import download
from evaluation.errors import DataFormatError, DataIntegrityError, DataUnavailableError
from evaluation.movielens import layout_of, read_movielens

_RATINGS = "userId,movieId,rating,timestamp\n7,30,4.0,200\n7,10,3.5,100\n9,10,5.0,50\n7,20,2.0,200\n"
_MOVIES = (
    'movieId,title,genres\r\n10,"Heat, the (1995)",Action|Crime\r\n20,Jumanji,War\r\n30,Odd,(no genres listed)\r\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset in the layout of ml-latest-small."""
    place = tmp_path / "mine"
    place.mkdir()
    (place / "ratings.csv").write_text(_RATINGS)
    (place / "movies.csv").write_bytes(_MOVIES.encode())
    return place


def test_ratings_are_sorted_by_user_and_time_and_equal_seconds_keep_the_files_order(folder: Path) -> None:
    """User 7 rated 10, then 30 and 20 within one second, in that order of the file."""
    data = load_dataset(str(folder))
    assert data.name == "mine"
    assert not data.synthetic
    assert data.user_names == ("7", "9")
    assert [data.item_names[i] for i in data.item] == ["Heat, the (1995)", "Odd", "Jumanji", "Heat, the (1995)"]
    assert data.time_s.tolist() == [100, 200, 200, 50]
    assert data.starts.tolist() == [0, 3, 4]


def test_genres_are_numbered_from_one_and_padded(folder: Path) -> None:
    """An item without genres has a row of zeros; row 0 belongs to the padding."""
    data = load_dataset(str(folder))
    assert [data.genre_names[g] for g in data.genres[1] if g] == ["Action", "Crime"]
    assert data.genres[0].sum() == 0
    assert data.genres[3].sum() == 0


def test_a_repeated_rating_is_dropped_and_counted(folder: Path) -> None:
    """The earliest rating of an item stays, so that an item is never in its own history."""
    with (folder / "ratings.csv").open("a") as file:
        file.write("7,10,1.0,900\n")
    data = load_dataset(str(folder))
    assert len(data) == 4
    assert data.duplicates == 1
    assert data.rating[0] == 3.5


def test_the_tab_separated_layout_is_read(tmp_path: Path) -> None:
    """u.data and u.item, in latin-1, with 19 genre flags."""
    (tmp_path / "u.data").write_text("1\t5\t4\t10\n1\t6\t2\t11\n")
    flags = "|".join(["0", "1"] + ["0"] * 17)
    (tmp_path / "u.item").write_bytes(f"5|Caf\xe9|a||b|{flags}\n6|B|a||b|{flags}\n".encode("latin-1"))
    data = load_dataset(str(tmp_path))
    assert data.item_names[1] == "Caf\xe9"
    assert data.genre_names[data.genres[1, 0]] == "Action"


@pytest.mark.parametrize(
    ("line", "number", "problem"),
    [
        ("7,40,four,300", 6, "rating is not a number"),
        ("7,40,nan,300", 6, "rating is not a number"),
        ("7,x,4.0,300", 6, "item is not a number"),
        ("7,40,4.0", 6, "3 columns"),
        ("7,40,4.0,", 6, "time_s is not a number"),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: str, number: int, problem: str) -> None:
    """The error says file, line and problem, and what to do."""
    with (folder / "ratings.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataFormatError, match=problem) as caught:
        load_dataset(str(folder))
    assert caught.value.line == number
    assert f"ratings.csv:{number}:" in str(caught.value)
    assert "--data PATH" in str(caught.value)


def test_wrong_columns_are_named(folder: Path) -> None:
    """Another header is refused before anything is read."""
    (folder / "ratings.csv").write_text("user,movie,stars\n1,2,3\n")
    with pytest.raises(DataFormatError, match=r"columns are 'user,movie,stars', expected 'userId,movieId"):
        load_dataset(str(folder))


def test_an_empty_file_is_refused(folder: Path) -> None:
    """A header alone is no dataset."""
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    with pytest.raises(DataFormatError, match="has no ratings"):
        load_dataset(str(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    """Ratings without titles and genres are refused."""
    (folder / "movies.csv").unlink()
    with pytest.raises(DataFormatError, match=r"movies\.csv: no such file"):
        load_dataset(str(folder))


def test_a_folder_without_ratings_is_refused(tmp_path: Path) -> None:
    """Neither layout's ratings are there."""
    with pytest.raises(DataFormatError, match=r"none of ratings\.csv, u\.data and ratings\.dat"):
        load_dataset(str(tmp_path))


def test_a_path_that_is_not_there_names_the_choices(tmp_path: Path) -> None:
    """A mistyped name is answered with the names there are."""
    with pytest.raises(DataUnavailableError, match="ml-latest-small, ml-100k, ml-1m, ml-20m, synthetic"):
        load_dataset(str(tmp_path / "nowhere"))


def test_a_truncated_copy_of_a_published_set_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named dataset must be the published one, whole; a damaged copy is not passed over."""
    (folder.parent / "ml-latest-small").symlink_to(folder)
    monkeypatch.setenv("CODA_DATA", str(folder.parent))
    with pytest.raises(DataIntegrityError, match=r"truncated or altered .* 4 ratings"):
        load_dataset("ml-latest-small")


def test_coda_data_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over every other place."""
    monkeypatch.setenv("CODA_DATA", str(tmp_path))
    assert next(search_path()) == tmp_path


def test_without_copy_and_network_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller can go on with synthetic data."""
    monkeypatch.setattr(datasets, "search_path", lambda: iter([tmp_path]))
    with pytest.raises(DataUnavailableError, match="set CODA_DATA"):
        load_dataset("ml-100k", allow_download=False)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_sets_are_read_whole(name: str) -> None:
    """Rows, users and items as their owner states; skipped where there is no copy."""
    if not any(layout_of(place / name) for place in search_path()):
        pytest.skip(f"no copy of {name} here; set CODA_DATA to test with it")
    data = load_dataset(name, allow_download=False)
    assert (len(data), data.users, data.items) == {
        "ml-latest-small": (100_836, 610, 9_724),
        "ml-100k": (100_000, 943, 1_682),
    }[name]
    assert data.duplicates == 0


def _archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
    return buffer.getvalue()


def _serve(tmp_path: Path, content: bytes) -> str:
    source = tmp_path / "source.zip"
    source.write_bytes(content)
    return source.as_uri()


def _fetch(url: str, target: Path, ratings: str = _RATINGS) -> Path:
    digest = hashlib.sha256(ratings.encode()).hexdigest()
    return download(url, target, members=("ratings.csv", "movies.csv"), ratings_sha256=digest)


def test_a_download_leaves_the_wanted_files_and_tells_its_progress(tmp_path: Path) -> None:
    """Only the files asked for are kept, and the last word on progress is the whole size."""
    content = _archive(**{"ml/ratings.csv": _RATINGS, "ml/movies.csv": _MOVIES, "ml/extra.txt": "no"})
    told: list[tuple[int, int | None]] = []
    digest = hashlib.sha256(_RATINGS.encode()).hexdigest()
    target = tmp_path / "cache" / "ml"
    download(
        _serve(tmp_path, content), target, members=("ratings.csv", "movies.csv"), ratings_sha256=digest,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert sorted(path.name for path in target.iterdir()) == ["movies.csv", "ratings.csv"]
    assert told[-1] == (len(content), len(content))
    assert len(read_movielens(target, "ml", ratings_sha256=digest)) == 4


@pytest.mark.parametrize(
    "content",
    [
        _archive(**{"ratings.csv": _RATINGS[:-9], "movies.csv": _MOVIES}),
        _archive(**{"ratings.csv": _RATINGS}),
        _archive(**{"ratings.csv": _RATINGS, "movies.csv": _MOVIES})[:150],
        b"<html>not found</html>",
    ],
    ids=["altered", "file missing", "cut off", "not a zip"],
)
def test_a_bad_archive_leaves_nothing_behind(tmp_path: Path, content: bytes) -> None:
    """The folder appears whole and checked, or not at all."""
    target = tmp_path / "cache" / "ml"
    with pytest.raises(DataIntegrityError):
        _fetch(_serve(tmp_path, content), target)
    assert list(target.parent.iterdir()) == []


def test_names_inside_the_archive_cannot_leave_the_folder(tmp_path: Path) -> None:
    """A member called ../../ratings.csv is written under our own name."""
    content = _archive(**{"../../ratings.csv": _RATINGS, "/etc/movies.csv": _MOVIES})
    target = tmp_path / "cache" / "deep" / "ml"
    _fetch(_serve(tmp_path, content), target)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv")} == {
        "cache/deep/ml/ratings.csv",
        "cache/deep/ml/movies.csv",
    }


def test_no_network_is_a_clear_error(tmp_path: Path) -> None:
    """The message says what to do about it."""
    with pytest.raises(DataUnavailableError, match=r"put a copy in \$CODA_DATA/ml"):
        _fetch((tmp_path / "absent.zip").as_uri(), tmp_path / "cache" / "ml")


def test_the_layout_with_double_colons_is_read(tmp_path: Path) -> None:
    """That of ml-1m; titles are not UTF-8, and a bad line is named."""
    (tmp_path / "movies.dat").write_bytes("10::Am\xe9lie::Comedy|Romance\n20::Heat::Action\n".encode("latin-1"))
    (tmp_path / "ratings.dat").write_text("1::20::5::978300760\n1::10::3::978300761\n")
    data = read_movielens(tmp_path, "mine")
    assert [data.item_names[i] for i in data.item] == ["Heat", "Am\xe9lie"]
    assert data.time_s.tolist() == [978300760, 978300761]
    assert [data.genre_names[g] for g in data.genres[1] if g] == ["Comedy", "Romance"]
    (tmp_path / "ratings.dat").write_text("1::20::5::978300760\n1::x::3::978300761\n")
    with pytest.raises(DataFormatError, match=r"ratings\.dat:2: item is not a number"):
        read_movielens(tmp_path, "mine")


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    """Where only the archive's digest is published, that is checked."""
    url = _serve(tmp_path, _archive(ratings="x"))
    with pytest.raises(DataIntegrityError, match="MD5"):
        download(url, tmp_path / "mine", members=("ratings.csv",), archive_md5="0" * 32)
    assert not (tmp_path / "mine").exists()
