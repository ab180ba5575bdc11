"""Reads the published layouts of MovieLens.

``ratings.csv`` and ``movies.csv`` (ml-latest-small, ml-20m), ``u.data`` and ``u.item`` (ml-100k), ``ratings.dat`` and
``movies.dat`` (ml-1m).

The data belongs to GroupLens: F. M. Harper and J. A. Konstan, The MovieLens Datasets, 2015, doi 10.1145/2827872.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import DataFormatError, DataIntegrityError
from evaluation.interactions import Interactions, build_interactions

_CSV_HEADER = "userId,movieId,rating,timestamp"
_MOVIES_HEADER = "movieId,title,genres"
_NO_GENRE = "(no genres listed)"
# fmt: off
_FLAG_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_U_ITEM_COLUMNS = 5 + len(_FLAG_GENRES)
_COLUMNS = ("user", "item", "rating", "time_s")
_ROW = np.dtype([(name, "f8" if name == "rating" else "i8") for name in _COLUMNS])
_REMEDY = "fetch the dataset again, or give its folder with --data PATH"


@dataclass(frozen=True)
class Layout:
    """Which files a published layout has, and how its ratings are written."""

    ratings: str
    movies: str
    delimiter: str
    header: str | None


CSV_LAYOUT = Layout("ratings.csv", "movies.csv", ",", _CSV_HEADER)
TAB_LAYOUT = Layout("u.data", "u.item", "\t", None)
COLON_LAYOUT = Layout("ratings.dat", "movies.dat", "::", None)
LAYOUTS = (CSV_LAYOUT, TAB_LAYOUT, COLON_LAYOUT)


def layout_of(folder: Path) -> Layout | None:
    """The layout whose ratings file the folder has, or None."""
    return next((layout for layout in LAYOUTS if (folder / layout.ratings).is_file()), None)


def read_movielens(folder: Path, name: str, *, ratings_sha256: str | None = None) -> Interactions:
    """Read a folder of any of the layouts.

    Args:
        folder: Where the files are.
        name: Of the dataset.
        ratings_sha256: What the ratings file must hash to, where that is known.

    Raises:
        DataFormatError: If a file is missing or a line cannot be read; names the file and the line.
        DataIntegrityError: If the ratings are not the published ones.
    """
    layout = layout_of(folder)
    if layout is None:
        raise DataFormatError(folder, None, "holds none of ratings.csv, u.data and ratings.dat", _REMEDY)
    if not (folder / layout.movies).is_file():
        raise DataFormatError(folder / layout.movies, None, "no such file", _REMEDY)
    rows = _read_ratings(folder / layout.ratings, layout)
    if ratings_sha256 is not None:
        check_sha256(folder / layout.ratings, ratings_sha256, len(rows))
    titles, genres_of = _read_movies(folder / layout.movies, layout)
    genre_names = sorted({genre for genres in genres_of.values() for genre in genres})
    return build_interactions(
        name, user_ids=rows["user"], item_ids=rows["item"], rating=rows["rating"], time_s=rows["time_s"],
        genres_of=genres_of, titles=titles, genre_names=genre_names,
    )  # fmt: skip


def check_sha256(path: Path, expected: str, rows: int | None = None) -> None:
    """Compare a file with its published digest.

    Raises:
        DataIntegrityError: If they differ.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != expected:
        has = f"{path.stat().st_size} bytes" + (f", {rows} ratings" if rows is not None else "")
        raise DataIntegrityError(
            f"{path}: truncated or altered ({has}, SHA-256 {found[:12]}..., published {expected[:12]}...); "
            "delete it so that it is fetched again, or use --data PATH to read it as it is"
        )


def _read_ratings(path: Path, layout: Layout) -> NDArray[Any]:
    _check_first_line(path, layout)
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            # NumPy wants a delimiter of one character.
            cells = lines if len(layout.delimiter) == 1 else (line.replace(layout.delimiter, "\t") for line in lines)
            delimiter = layout.delimiter if len(layout.delimiter) == 1 else "\t"
            rows: NDArray[Any] = np.loadtxt(
                cells, _ROW, delimiter=delimiter, skiprows=int(layout.header is not None), ndmin=1
            )
    except ValueError as error:
        raise _first_bad_line(path, layout) from error
    if not np.isfinite(rows["rating"]).all():
        raise _first_bad_line(path, layout)
    return rows


def _check_first_line(path: Path, layout: Layout) -> None:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first, second = lines.readline().rstrip("\r\n"), lines.readline()
    if layout.header is not None and first != layout.header:
        raise DataFormatError(path, 1, f"columns are {first[:80]!r}, expected {layout.header!r}", _REMEDY)
    if not (second if layout.header is not None else first):
        raise DataFormatError(path, None, "has no ratings", _REMEDY)


def _first_bad_line(path: Path, layout: Layout) -> DataFormatError:
    # Only after the fast reader has failed: slower, but it can say where.
    for number, line in _numbered_lines(path, skip=int(layout.header is not None)):
        cells = line.split(layout.delimiter)
        if len(cells) != len(_COLUMNS):
            return DataFormatError(path, number, f"{len(cells)} columns, expected 4: {line[:60]!r}", _REMEDY)
        for cell, column in zip(cells, _COLUMNS, strict=True):
            if not _is_number(cell, whole=column != "rating"):
                return DataFormatError(path, number, f"{column} is not a number: {cell[:40]!r}", _REMEDY)
    return DataFormatError(path, None, "cannot be read as ratings", _REMEDY)


def _numbered_lines(path: Path, skip: int) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if number > skip and line.strip():
                yield number, line.rstrip("\r\n")


def _is_number(cell: str, *, whole: bool) -> bool:
    try:
        return bool(np.isfinite(int(cell) if whole else float(cell)))
    except ValueError:
        return False


def _read_movies(path: Path, layout: Layout) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    titles: dict[int, str] = {}
    genres: dict[int, tuple[str, ...]] = {}
    rows = {CSV_LAYOUT: _csv_movies, TAB_LAYOUT: _flagged_movies, COLON_LAYOUT: _colon_movies}[layout](path)
    for number, movie, title, its_genres in rows:
        if not _is_number(movie, whole=True):
            raise DataFormatError(path, number, f"movie id is not a number: {movie[:40]!r}", _REMEDY)
        titles[int(movie)], genres[int(movie)] = title, its_genres
    return titles, genres


def _csv_movies(path: Path) -> Iterator[tuple[int, str, str, tuple[str, ...]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = ",".join(next(reader, []))
        if header != _MOVIES_HEADER:
            raise DataFormatError(path, 1, f"columns are {header[:80]!r}, expected {_MOVIES_HEADER!r}", _REMEDY)
        for cells in reader:
            if len(cells) != 3:
                raise DataFormatError(path, reader.line_num, f"{len(cells)} columns, expected 3", _REMEDY)
            genres = () if cells[2] == _NO_GENRE else tuple(cells[2].split("|"))
            yield reader.line_num, cells[0], cells[1], genres


def _colon_movies(path: Path) -> Iterator[tuple[int, str, str, tuple[str, ...]]]:
    with path.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines, start=1):
            cells = line.rstrip("\r\n").split("::")
            if len(cells) != 3:
                raise DataFormatError(path, number, f"{len(cells)} columns, expected 3", _REMEDY)
            yield number, cells[0], cells[1], tuple(cells[2].split("|"))


def _flagged_movies(path: Path) -> Iterator[tuple[int, str, str, tuple[str, ...]]]:
    with path.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines, start=1):
            cells = line.rstrip("\r\n").split("|")
            if len(cells) != _U_ITEM_COLUMNS:
                problem = f"{len(cells)} columns, expected {_U_ITEM_COLUMNS}"
                raise DataFormatError(path, number, problem, _REMEDY)
            flags = zip(_FLAG_GENRES, cells[5:], strict=True)
            yield number, cells[0], cells[1], tuple(genre for genre, flag in flags if flag == "1")
