"""The rows of a CSV or Parquet table, some at a time; one that cannot be read takes none of the others with it."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_broker.errors import StorageError

ROWS_A_STEP = 20_000
PARQUET = (".parquet", ".pq")


Row = Mapping[str, Any] | ValueError  # its values by column, or in their place why they cannot be read


def read_table(path: Path, wanted: list[str]) -> tuple[int, Iterator[Sequence[Row]]]:
    """How many rows a table has, 0 if that is not known, and these, `ROWS_A_STEP` at a time.

    Args:
        path: ``.parquet`` or ``.pq``; anything else is CSV in UTF-8, with or without a byte order mark.
        wanted: Columns that it has to have, once each.

    Raises:
        StorageError: If it cannot be read, or has not these columns.
    """
    if path.suffix.lower() in PARQUET:
        return _read_parquet(path, wanted)
    with _reading(path), _opened(path) as file:
        _check_columns(path, next(csv.reader(file), []), wanted)
    return 0, _csv_chunks(path)


def pyarrow() -> tuple[Any, Any]:
    """Pyarrow and its `parquet`.

    Raises:
        StorageError: If it is not installed.
    """
    try:
        import pyarrow  # noqa: PLC0415 - large, and only tables of this kind need it
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise StorageError("Parquet needs pyarrow: `pip install 'coda-edge[parquet]'`, or use CSV") from error
    return pyarrow, pyarrow.parquet


def _read_parquet(path: Path, wanted: list[str]) -> tuple[int, Iterator[Sequence[Row]]]:
    arrow, parquet = pyarrow()
    with _reading(path, arrow.ArrowException):
        file = parquet.ParquetFile(path)
    _check_columns(path, file.schema_arrow.names, wanted)

    def chunks() -> Iterator[Sequence[Row]]:
        batches = file.iter_batches(ROWS_A_STEP, columns=wanted)
        while True:
            with _reading(path, arrow.ArrowException):
                batch = next(batches, None)
                rows = None if batch is None else batch.to_pylist()
            if rows is None:
                return
            yield rows

    return file.metadata.num_rows, chunks()


def _csv_chunks(path: Path) -> Iterator[Sequence[Row]]:
    with _opened(path) as file:
        rows = _csv_rows(csv.reader(file))
        while True:
            with _reading(path):
                chunk = list(itertools.islice(rows, ROWS_A_STEP))
            if not chunk:
                return
            yield chunk


def _csv_rows(records: Iterator[list[str]]) -> Iterator[Row]:
    names = next(records, [])
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield ValueError(f"not CSV: {error}")
            continue
        if len(record) == len(names):
            yield dict(zip(names, record, strict=True))
        elif record:
            yield ValueError(f"{len(record)} values where the header names {len(names)} columns")


def _opened(path: Path) -> Any:
    # What is not UTF-8 stays told apart, so that no two contributors become one.
    return path.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


def _check_columns(path: Path, names: list[str], wanted: list[str]) -> None:
    there = Counter(names)
    if missing := [name for name in wanted if not there[name]]:
        raise StorageError(f"{path} lacks the columns {', '.join(missing)}; a pool's table has {', '.join(wanted)}")
    if twice := [name for name in wanted if there[name] > 1]:
        raise StorageError(f"{path} has the columns {', '.join(twice)} more than once: which is meant is not known")


@contextmanager
def _reading(path: Path, *further: type[Exception]) -> Iterator[None]:
    failures: tuple[type[Exception], ...] = (OSError, csv.Error, *further)
    try:
        yield
    except failures as error:
        raise StorageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
