"""What worker processes share: names of the files in a world's folder, and the pool's columns, which all map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

RECOMMENDER_FILE = "recommender.tflite"
CLASSIFIER_FILE = "classifier.tflite"
POOL_FOLDER = "pool"


def write_pool(pool: SampleBatch, folder: Path) -> None:
    """Write one .npy file per column, and the schema."""
    folder.mkdir(parents=True, exist_ok=True)
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
