"""Sample vectors by the converted file itself, so that the cloud's vectors are the device's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from converters.runtimes import installed_runtimes
from protocol.samples import SampleBatch
from protocol.vectors import sample_vectors

_ROWS_A_CALL = 4096


class Embedder:
    """A recommender file's `embed` signature; one thread at a time."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        """Open the file.

        Raises:
            StorageError: If no TFLite runtime is installed, or the file is not a recommender.
        """
        runtimes = installed_runtimes()
        if not runtimes:
            raise StorageError("no TFLite runtime is installed: `pip install ai-edge-litert`")
        try:
            self._interpreter = runtimes[0].open(path, threads)
            self._embed = self._interpreter.get_signature_runner("embed")
        except ValueError as error:
            raise StorageError(f"{path} is not a recommender with an `embed` signature: {error}") from error

    def vectors(self, batch: SampleBatch) -> NDArray[np.float32]:
        """The samples' vectors, float32 [n, d], in rows as in ``batch``."""
        pieces = [self._call(batch.take(slice(at, at + _ROWS_A_CALL))) for at in range(0, len(batch), _ROWS_A_CALL)]
        # Of no samples the width is not known without asking for one.
        return np.concatenate(pieces) if pieces else np.zeros((0, 0), np.float32)

    def _call(self, batch: SampleBatch) -> NDArray[np.float32]:
        found = self._embed(**batch.features)
        return sample_vectors(found["user_vector"], found["item_vector"])
