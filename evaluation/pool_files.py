"""What worker processes share: files in a world's folder; the pool's columns and h0's rows are mapped by all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.models.rows import RowFile, write_rows
from edge.learning.recommender import Recommender
from edge.learning.runtime import open_model
from protocol.rows import RowTable, TableRows
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

RECOMMENDER_FILE = "recommender.tflite"
CLASSIFIER_FILE = "classifier.tflite"
POOL_FOLDER = "pool"
FROZEN_FOLDER = "frozen"
_OWNER_FILE = "owner.npy"
_ROWS_FILE, _ROWS_DESCRIPTION = "rows.npy", "rows.json"


def write_pool(pool: SampleBatch, owner: NDArray[np.integer[Any]], folder: Path) -> None:
    """Write one .npy file per column, each sample's user, and the schema."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _OWNER_FILE, owner, allow_pickle=False)
    (folder / "schema.json").write_text(json.dumps(pool.schema.to_dict()))
    for name, column in pool.columns():
        np.save(folder / f"{name}.npy", column, allow_pickle=False)


def map_pool(folder: Path) -> SampleBatch:
    """The pool, its columns mapped and not read."""
    schema = FeatureSchema.from_dict(json.loads((folder / "schema.json").read_text()))

    def column(name: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    features = {feature.name: column(feature.name) for feature in schema.features}
    return SampleBatch(schema, features, column("label"), column("time_s"))


def map_owner(folder: Path) -> NDArray[np.integer[Any]]:
    """Each pool sample's user, mapped and not read."""
    owner: NDArray[np.integer[Any]] = np.load(folder / _OWNER_FILE, mmap_mode="r", allow_pickle=False)
    return owner


def write_row_table(rows: RowTable, folder: Path) -> None:
    """Write the rows that h0's file does not hold, and what they are."""
    (folder / _ROWS_DESCRIPTION).write_text(json.dumps(rows.description.to_dict()))
    write_rows(folder / _ROWS_FILE, rows.values)


def map_row_table(folder: Path, model_sha256: str) -> RowFile | None:
    """The rows that h0's file does not hold, mapped; None where it holds everything.

    Raises:
        StorageError: If they are not that model's.
    """
    description = folder / _ROWS_DESCRIPTION
    if not description.exists():
        return None
    return RowFile(folder / _ROWS_FILE, TableRows.from_dict(json.loads(description.read_text())), model_sha256)


def open_recommender(folder: Path) -> Recommender:
    """h0, as a device opens it.

    Raises:
        ModelFileError: If the file is not a model.
        StorageError: If its rows are not there.
    """
    model = open_model(folder / RECOMMENDER_FILE)
    rows = map_row_table(folder, model.sha256)
    return Recommender(model, None if rows is None else rows.table, rows)
