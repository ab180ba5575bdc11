"""The pool to a CSV or Parquet file and back. Rows that cannot be used are told, one by one; the good ones go in."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_broker.errors import StorageError
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.pool.table_rows import CONTRIBUTOR, batch_of, checked, column_names
from protocol.samples import SampleBatch
from protocol.schema import FeatureKind

_ROWS_A_STEP = 20_000
_PARQUET = (".parquet", ".pq")

OnProgress = Callable[[int, int], None]
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Imported:
    """What came of an import.

    Attributes:
        rows: In the file.
        added: Samples that were new.
        refused: Rows that cannot be used.
    """

    rows: int
    added: int
    refused: int


def export_pool(pool: SamplePool, path: Path, on_progress: OnProgress | None = None) -> int:
    """Write all samples with their contributors' names to a table; how many.

    Args:
        pool: The pool; who has it open may go on.
        path: ``.csv``, ``.parquet`` or ``.pq``; replaced if it is there.
        on_progress: Told rows done and rows in all.

    Raises:
        StorageError: If the disk fails, or pyarrow is missing.
    """
    live, names = pool.live_rows(), pool.contributor_names()
    written = 0
    with _written(path, column_names(pool.schema)) as write:
        for begin in range(0, len(live), _ROWS_A_STEP):
            rows = live[begin : begin + _ROWS_A_STEP]
            owners, batch = pool.contributors[rows], pool.take(rows)
            # Who was forgotten while this went on is left out.
            still = owners > 0
            write(_columns([names.get(int(owner), "") for owner in owners[still]], batch.take(still)))
            written += int(still.sum())
            if on_progress is not None:
                on_progress(min(begin + _ROWS_A_STEP, len(live)), len(live))
    return written


def import_table(
    pool: SamplePool,
    path: Path,
    errors: Path | None = None,
    on_progress: OnProgress | None = None,
    *,
    agreement: bool = False,
) -> Imported:
    """Take a table's samples into the pool; those of a table that was imported before add nothing.

    Args:
        pool: The pool.
        path: What `export_pool` writes; columns in any order, further ones are passed over.
        errors: CSV to write rows that cannot be used to: their number, counted from 1 after the header, and why.
        on_progress: Told rows done and rows in all, 0 where that is not known.
        agreement: Whether its contributors allow that their opinions are compared, see `SamplePool.allow_agreement`;
            where not, what they allowed before stays.

    Raises:
        StorageError: If the file cannot be read or lacks a column, or the disk fails.
    """
    digest = _digest(path)
    total, chunks = _read(path, column_names(pool.schema))
    rows = added = refused = 0
    with _written(errors, ["row", "error"]) as write:
        for number, chunk in enumerate(chunks):
            good: dict[str, list[dict[str, Any]]] = {}
            bad: list[tuple[int, str]] = []
            for row in chunk:
                rows += 1
                try:
                    values = checked(pool.schema, row)
                    good.setdefault(values[CONTRIBUTOR], []).append(values)
                except ValueError as error:
                    bad.append((rows, str(error)))
            added += pool.add_many(
                Given(name, batch_of(pool.schema, mine), f"{digest}-{number}") for name, mine in good.items()
            )
            if agreement:
                pool.allow_agreement(good, True)
            refused += len(bad)
            write({"row": [row for row, _ in bad], "error": [why for _, why in bad]})
            if on_progress is not None:
                on_progress(rows, total)
    return Imported(rows, added, refused)


def _columns(owners: list[str], batch: SampleBatch) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {CONTRIBUTOR: owners}
    for name, values in batch.columns():
        kind = batch.schema[name].kind if name in batch.features else None
        if kind in (FeatureKind.SEQUENCE, FeatureKind.MULTIVALUED):
            columns[name] = [row[row != 0].tolist() for row in values]
        else:
            columns[name] = values.tolist()
    return columns


@contextmanager
def _written(path: Path | None, names: list[str]) -> Iterator[Callable[[Mapping[str, list[Any]]], None]]:
    """Writes columns, some rows at a time; nowhere if there is no path."""
    if path is None:
        yield lambda _columns: None
    elif path.suffix.lower() in _PARQUET:
        with _parquet_written(path) as write:
            yield write
    else:
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(names)
                yield lambda columns: writer.writerows(
                    [_text(value) for value in row] for row in zip(*(columns[name] for name in names), strict=True)
                )
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _parquet_written(path: Path) -> Iterator[Callable[[Mapping[str, list[Any]]], None]]:
    arrow, parquet = _pyarrow()
    writer: Any = None

    def write(columns: Mapping[str, list[Any]]) -> None:
        nonlocal writer
        table = arrow.table(dict(columns)) if writer is None else arrow.table(dict(columns), schema=writer.schema)
        if writer is None:
            writer = parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)

    try:
        yield write
    except (OSError, arrow.ArrowException) as error:
        raise StorageError(f"cannot write {path}: {error}") from error
    finally:
        if writer is not None:
            writer.close()


def _text(value: Any) -> Any:
    return " ".join(str(part) for part in value) if isinstance(value, list) else value


def _read(path: Path, wanted: list[str]) -> tuple[int, Iterator[Sequence[_Row]]]:
    """How many rows a table has, 0 if that is not known, and these, some at a time."""
    try:
        if path.suffix.lower() not in _PARQUET:
            _check_columns(path, _csv_names(path), wanted)
            return 0, _csv_chunks(path)
        arrow, parquet = _pyarrow()
        try:
            file = parquet.ParquetFile(path)
        except arrow.ArrowException as error:
            raise StorageError(f"cannot read {path}: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    _check_columns(path, file.schema_arrow.names, wanted)
    batches = file.iter_batches(_ROWS_A_STEP, columns=wanted)
    return file.metadata.num_rows, (batch.to_pylist() for batch in batches)


def _csv_names(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return next(csv.reader(file), [])


def _csv_chunks(path: Path) -> Iterator[Sequence[_Row]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        while chunk := list(itertools.islice(rows, _ROWS_A_STEP)):
            yield chunk


def _check_columns(path: Path, names: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise StorageError(f"{path} lacks the columns {', '.join(missing)}; a pool's table has {', '.join(wanted)}")


def _digest(path: Path) -> str:
    """Names the table's content, so that it is known when it is imported again."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return f"import-{hasher.hexdigest()[:24]}"


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - large, and only tables of this kind need it
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise StorageError("Parquet needs pyarrow: `pip install 'coda-edge[parquet]'`, or use CSV") from error
    return pyarrow, pyarrow.parquet
