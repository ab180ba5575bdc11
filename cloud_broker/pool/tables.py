"""The pool to a CSV or Parquet file and back. Rows that cannot be used are told, one by one; the good ones go in."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_broker.errors import StorageError
from cloud_broker.pool.sample_pool import Given, SamplePool
from cloud_broker.pool.table_reading import PARQUET, ROWS_A_STEP, Row, pyarrow, read_table
from cloud_broker.pool.table_rows import CONTRIBUTOR, LABEL, batch_of, checked, column_names
from hardware.durable import sync
from protocol.samples import SampleBatch
from protocol.schema import FeatureKind, FeatureSchema

OnProgress = Callable[[int, int], None]
_Write = Callable[[Mapping[str, list[Any]]], None]


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
        path: ``.csv``, ``.parquet`` or ``.pq``; replaced if it is there, when all is written.
        on_progress: Told rows done and rows in all.

    Raises:
        StorageError: If the disk fails, or pyarrow is missing.
    """
    live, names = pool.live_rows(), pool.contributor_names()
    written = 0
    with _replaced(path) as unfinished, _table_written(unfinished, pool.schema) as write:
        for begin in range(0, len(live), ROWS_A_STEP):
            rows = live[begin : begin + ROWS_A_STEP]
            owners, batch = pool.contributors[rows], pool.take(rows)
            # Who was forgotten while this went on is left out.
            still = owners > 0
            write(_columns([names.get(int(owner), "") for owner in owners[still]], batch.take(still)))
            written += int(still.sum())
            if on_progress is not None:
                on_progress(min(begin + ROWS_A_STEP, len(live)), len(live))
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
    if errors is not None and errors.exists() and errors.samefile(path):
        raise StorageError(f"{errors} is the table itself: name another file for the rows that cannot be used")
    total, chunks = read_table(path, column_names(pool.schema))
    rows = added = refused = 0
    with _csv_written(errors, ["row", "error"]) as write:
        for number, chunk in enumerate(chunks):
            good: dict[str, list[dict[str, Any]]] = {}
            bad: list[tuple[int, str]] = []
            for row in chunk:
                rows += 1
                try:
                    values = _values(pool.schema, row)
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


def _values(schema: FeatureSchema, row: Row) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    return checked(schema, row)


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
def _replaced(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of ``path`` when it is whole; until then, and if it fails, that stays."""
    if path.exists() and not path.is_file():  # a pipe or the like has no place
        yield path
        return
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
        with _writing(path):
            sync(unfinished)
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _table_written(path: Path, schema: FeatureSchema) -> AbstractContextManager[_Write]:
    """Writes columns of samples, some rows at a time."""
    return (
        _parquet_written(path, schema) if path.suffix.lower() in PARQUET else _csv_written(path, column_names(schema))
    )


@contextmanager
def _csv_written(path: Path | None, names: list[str]) -> Iterator[_Write]:
    """Writes columns; nowhere if there is no path."""
    if path is None:
        yield lambda _columns: None
        return
    with _writing(path):
        file = path.open("w", newline="", encoding="utf-8")
    writer = csv.writer(file)

    def write(columns: Mapping[str, list[Any]]) -> None:
        rows = zip(*(columns[name] for name in names), strict=True)
        with _writing(path):
            writer.writerows([_text(value) for value in row] for row in rows)
            file.flush()

    try:
        write({name: [name] for name in names})
        yield write
    finally:
        with _writing(path):
            file.close()


@contextmanager
def _parquet_written(path: Path, schema: FeatureSchema) -> Iterator[_Write]:
    arrow, parquet = pyarrow()
    # Said, not guessed from the first rows: these may be none, or have empty lists alone.
    forms = arrow.schema([(name, _arrow_form(arrow, schema, name)) for name in column_names(schema)])
    with _writing(path, arrow.ArrowException):
        writer = parquet.ParquetWriter(path, forms)

    def write(columns: Mapping[str, list[Any]]) -> None:
        with _writing(path, arrow.ArrowException):
            writer.write_table(arrow.table(dict(columns), schema=forms))

    try:
        yield write
    finally:
        with _writing(path, arrow.ArrowException):
            writer.close()


def _arrow_form(arrow: Any, schema: FeatureSchema, name: str) -> Any:
    if name == CONTRIBUTOR:
        return arrow.string()
    if name == LABEL:
        return arrow.float64()
    feature = next((feature for feature in schema.features if feature.name == name), None)
    if feature is None or feature.kind is FeatureKind.CATEGORICAL:
        return arrow.int64()
    return arrow.list_(arrow.float64() if feature.kind is FeatureKind.DENSE else arrow.int64())


@contextmanager
def _writing(path: Path, *further: type[Exception]) -> Iterator[None]:
    failures: tuple[type[Exception], ...] = (OSError, *further)
    try:
        yield
    except failures as error:
        raise StorageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _text(value: Any) -> Any:
    return " ".join(str(part) for part in value) if isinstance(value, list) else value


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
