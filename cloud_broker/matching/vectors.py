"""Sample vectors by the converted file itself, so that the cloud's vectors are the device's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.models.rows import RowFile
from converters.runtimes import installed_runtimes
from protocol.samples import SampleBatch
from protocol.slots import in_pieces
from protocol.vectors import sample_vectors

_ROWS_A_CALL = 4096


class Embedder:
    """A recommender file's `embed` signature; one thread at a time."""

    def __init__(self, path: Path, threads: int = 2, rows: RowFile | None = None) -> None:
        """Open the file.

        Args:
            path: The file.
            threads: Of the kernels.
            rows: What the file does not hold of its largest table.

        Raises:
            StorageError: If no TFLite runtime is installed, or the file is not a recommender.
        """
        self._rows = rows
        runtimes = installed_runtimes()
        if not runtimes:
            raise StorageError("no TFLite runtime is installed: `pip install ai-edge-litert`")
        try:
            self._interpreter = runtimes[0].open(path, threads)
            self._embed = self._interpreter.get_signature_runner("embed")
            self._set_rows = None if rows is None else self._interpreter.get_signature_runner("set_rows")
        except ValueError as error:
            raise StorageError(f"{path} is not a recommender with an `embed` signature: {error}") from error

    def vectors(self, batch: SampleBatch) -> NDArray[np.float32]:
        """The samples' vectors, float32 [n, d], in rows as in ``batch``."""
        parts = (batch.take(slice(at, at + _ROWS_A_CALL)) for at in range(0, len(batch), _ROWS_A_CALL))
        pieces = [self._call(piece) for part in parts for piece in self._with_rows(part)]
        # Of no samples the width is not known without asking for one.
        return np.concatenate(pieces) if pieces else np.zeros((0, 0), np.float32)

    def _with_rows(self, batch: SampleBatch) -> Iterator[SampleBatch]:
        """The batch in pieces as the model sees them, the rows of a piece's items in place when it comes."""
        if self._rows is None or self._set_rows is None:
            yield batch
            return
        for slots, piece in in_pieces(batch, self._rows.table):
            self._set_rows(**slots.arrays(self._rows.rows(slots.table.version, slots.ids)))
            yield piece

    def _call(self, batch: SampleBatch) -> NDArray[np.float32]:
        found = self._embed(**batch.features)
        return sample_vectors(found["user_vector"], found["item_vector"])
