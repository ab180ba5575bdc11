"""Rows of a CSV, JSON-lines or Parquet file as columns, some at a time: no file has to fit in memory as text."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evaluation.errors import DataFormatError
from evaluation.reading import Tally

ROWS_A_CHUNK = 65_536
SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".json", ".jsonl", ".ndjson", ".parquet", ".pq")
_DELIMITERS = ",\t;|"
_REMEDY = "check the file, or name another one with --data"


@dataclass(frozen=True)
class Chunk:
    """Some rows.

    Attributes:
        rows: Each row's number in the file, counted from 1 after the header.
        columns: Values by column, as they stand in the file: text, or what JSON and Parquet hold; None where absent.
    """

    rows: range | list[int]
    columns: Mapping[str, Sequence[Any]]


def kind_of(path: Path) -> str:
    """``csv``, ``json`` or ``parquet``, by the name's ending; ``.gz`` may follow the first two.

    Raises:
        DataFormatError: If it is none of these.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    last = suffixes[-1] if suffixes else ""
    if last not in SUFFIXES:
        raise DataFormatError(path, None, f"ends with none of {', '.join(SUFFIXES)}", "rename it, or convert it to CSV")
    return "parquet" if last in (".parquet", ".pq") else "json" if "json" in last else "csv"


def column_names(path: Path) -> list[str]:
    """The file's columns, of JSON lines those of the first object.

    Raises:
        DataFormatError: If the file is empty or cannot be read.
    """
    kind = kind_of(path)
    if kind == "parquet":
        return list(_parquet(path).schema_arrow.names)
    with _opened(path, Tally()) as file:
        if kind == "csv":
            return _header(path, file)[0]
        first = next((found for line in file if (found := _object(line)) is not None), None)
    if first is None:
        raise DataFormatError(path, None, "holds no JSON object", _REMEDY)
    return list(first)


def read_chunks(path: Path, wanted: Sequence[str], tally: Tally) -> Iterator[Chunk]:
    """The wanted columns of all rows that have the right form; what has not is counted.

    Raises:
        DataFormatError: If the file is empty or cannot be read.
    """
    kind = kind_of(path)
    if kind == "parquet":
        yield from _parquet_chunks(path, wanted, tally)
        return
    with _opened(path, tally) as file:
        yield from (_csv_chunks if kind == "csv" else _json_chunks)(path, file, wanted, tally)


@contextmanager
def _opened(path: Path, tally: Tally) -> Iterator[IO[str]]:
    """The file as text. Bytes that are not UTF-8 become escapes, so that names which differ in them stay apart."""

    def escape(error: UnicodeError) -> tuple[str | bytes, int]:
        tally.remark("stretches of bytes that are not UTF-8, read as escapes")
        return codecs.backslashreplace_errors(error)

    handler = f"coda-escape-{id(tally)}"
    codecs.register_error(handler, escape)
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as raw:
            yield io.TextIOWrapper(raw, "utf-8-sig", errors=handler, newline="")  # type: ignore[type-var, unused-ignore]
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataFormatError(path, None, f"not a whole gzip file ({error})", _REMEDY) from error


def _header(path: Path, file: IO[str]) -> tuple[list[str], str]:
    """Names and delimiter: the character that parts the header into most columns."""
    line = file.readline().rstrip("\r\n")
    if not line:
        raise DataFormatError(path, None, "is empty: a line with the columns' names is needed", _REMEDY)
    delimiter = max(_DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter))
    return [name.strip() for name in names], delimiter


def _csv_chunks(path: Path, file: IO[str], wanted: Sequence[str], tally: Tally) -> Iterator[Chunk]:
    names, delimiter = _header(path, file)
    place = {name: names.index(name) for name in wanted}
    records = _csv_records(csv.reader(file, delimiter=delimiter), tally)
    while chunk := list(itertools.islice(records, ROWS_A_CHUNK)):
        first = tally.rows + 1
        tally.rows += len(chunk)
        rows: range | list[int] = range(first, first + len(chunk))
        whole = [len(record) == len(names) for record in chunk]
        if not all(whole):
            for row, record in zip(rows, chunk, strict=True):
                if len(record) != len(names):
                    tally.leave_out("another number of columns than the header has", row)
            rows = list(itertools.compress(rows, whole))
            chunk = list(itertools.compress(chunk, whole))
        columns = list(zip(*chunk, strict=True)) or [()] * len(names)
        yield Chunk(rows, {name: columns[index] for name, index in place.items()})


def _csv_records(reader: Iterator[list[str]], tally: Tally) -> Iterator[list[str]]:
    while True:
        try:
            yield from (record for record in reader if record)
        except csv.Error:
            tally.rows += 1
            tally.leave_out("not CSV, such as a quote that does not end", tally.rows)
        else:
            return


def _json_chunks(path: Path, file: IO[str], wanted: Sequence[str], tally: Tally) -> Iterator[Chunk]:
    while lines := list(itertools.islice(file, ROWS_A_CHUNK)):
        rows, columns = [], {name: [] for name in wanted}  # type: tuple[list[int], dict[str, list[Any]]]
        for line in lines:
            if not line.strip():
                continue
            tally.rows += 1
            found = _object(line)
            if found is None:
                tally.leave_out("not a JSON object on one line", tally.rows)
                continue
            rows.append(tally.rows)
            for name, values in columns.items():
                values.append(found.get(name))
        yield Chunk(rows, columns)


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _parquet_chunks(path: Path, wanted: Sequence[str], tally: Tally) -> Iterator[Chunk]:
    for batch in _parquet(path).iter_batches(batch_size=ROWS_A_CHUNK, columns=list(wanted)):
        rows = range(tally.rows + 1, tally.rows + batch.num_rows + 1)
        tally.rows += batch.num_rows
        yield Chunk(rows, {name: batch.column(name).to_pylist() for name in wanted})


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra: only who reads Parquet needs it
    except ImportError as error:
        remedy = "pip install 'coda-edge[parquet]', or convert it to CSV"
        raise DataFormatError(path, None, "reading Parquet needs pyarrow, which is not installed", remedy) from error
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise DataFormatError(path, None, f"not a Parquet file ({error})", _REMEDY) from error
