"""What every contender trains: one model from the same weights, on the same batches in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """A folder with a model in three forms and the samples.

    Attributes:
        folder: Holds ``model.tflite``, ``model.keras``, ``weights.npz`` and ``samples.npz``.
        trainable: Trainable set of the conversion: ``head`` freezes the embedding tables.
        items: Rows of the item table.
        embedding_dim: Its columns.
        steps: Batches of one pass.
        batch_size: Samples of one batch.
        learning_rate: Of plain SGD.
        sampling_seed: Of the sampler that drew the batches.
        model: One of `benchmarks.training.models.MODELS`.
    """

    folder: Path
    trainable: str
    items: int = 4000
    embedding_dim: int = 16
    steps: int = 105
    batch_size: int = 32
    learning_rate: float = 0.05
    sampling_seed: int = 3
    model: str = "din"

    @property
    def tflite(self) -> Path:
        """The converted file."""
        return self.folder / "model.tflite"

    @property
    def rows(self) -> Path:
        """The rows in the file's slots, where it has slots."""
        return self.folder / "rows.npz"

    @property
    def keras(self) -> Path:
        """The Keras model that was converted."""
        return self.folder / "model.keras"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without the folder."""
        values = asdict(self)
        del values["folder"]
        return values

    def save(self) -> None:
        """Write the numbers into the folder, for the contenders."""
        (self.folder / "job.json").write_text(json.dumps(self.to_dict()))

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Inverse of `save`."""
        return cls(folder, **json.loads((folder / "job.json").read_text()))

    def save_samples(self, columns: dict[str, Array], rows: Array) -> None:
        """Write the columns [n, ...] and the rows of each batch [steps, batch]."""
        np.savez(self.folder / "samples.npz", **columns, _rows=rows)

    def columns(self) -> dict[str, Array]:
        """Every feature [n, ...] and ``label`` float32 [n]."""
        with np.load(self.folder / "samples.npz") as samples:
            return {name: samples[name] for name in samples.files if name != "_rows"}

    def blocks(self) -> dict[str, Array]:
        """The same, batch after batch: [steps, batch, ...]."""
        with np.load(self.folder / "samples.npz") as samples:
            rows = samples["_rows"]
            return {name: samples[name][rows] for name in samples.files if name != "_rows"}

    def batches(self) -> Iterator[dict[str, Array]]:
        """The same, one dict a batch: [batch, ...]."""
        blocks = self.blocks()
        return ({name: block[step] for name, block in blocks.items()} for step in range(self.steps))

    def save_weights(self, weights: dict[str, Array]) -> None:
        """Write every weight of the model by its Keras path."""
        np.savez(self.folder / "weights.npz", **{path.replace("/", "."): value for path, value in weights.items()})

    def weights(self) -> dict[str, Array]:
        """Every weight of the model by its Keras path."""
        with np.load(self.folder / "weights.npz") as weights:
            return {path.replace(".", "/"): weights[path] for path in weights.files}
