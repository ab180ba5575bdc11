"""Keras model in, proven TFLite file out: trains, infers, gives and takes its weights on a device."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.batches import id_bounds
from converters.model_call import ModelCall, require_model
from converters.optimizers import optimizer_named
from converters.options import ConvertOptions
from converters.parity import check_parity
from converters.parity_report import ParityReport
from converters.tables import row_tables
from converters.tflite_file import to_tflite
from converters.trainable import TrainableModule
from converters.unsupported import explained
from converters.weights import select_weights
from protocol.rows import RowTable

__all__ = ["Conversion", "ConvertOptions", "convert"]


@dataclass(frozen=True)
class Conversion:
    """A file that was written.

    Attributes:
        path: Where it lies.
        sha256: Hexadecimal digest of its bytes; its name among content-addressed blobs.
        size_bytes: Its length.
        parity: The comparison it passed.
        rows: By table, the rows that the file does not hold, where `ConvertOptions.slots` said so.
    """

    path: Path
    sha256: str
    size_bytes: int
    parity: ParityReport
    rows: Mapping[str, RowTable] = field(default_factory=dict)


def convert(model: Any, out: Path, options: ConvertOptions | None = None) -> Conversion:
    """Convert a built ``keras.Model`` and write the file, once it trains in every installed runtime as in TensorFlow.

    Args:
        model: Takes inputs by name; returns a logit [n] or [n, 1], or a dict with ``logit`` (and ``user_vector`` and
            ``item_vector`` for the ``embed`` signature). It stays as it is.
        out: The file to write; replaced in one step, or not at all.
        options: Batch size, optimiser, trainable set, ...

    Raises:
        ConversionError: If the model does not allow it.
        ParityError: If the file does not do what TensorFlow does.
    """
    options = options or ConvertOptions()
    optimizer = optimizer_named(options.optimizer)
    require_model(model)
    weights = select_weights(model, options.trainable, options.slots, options.schema)
    call = ModelCall(model, weights.resting)
    module = TrainableModule(call, weights, optimizer, options.batch_size)
    content = explained(model, module, lambda signatures: to_tflite(module, signatures))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".coda-convert-") as folder:
        candidate = Path(folder) / out.name
        candidate.write_bytes(content)
        parity = check_parity(
            candidate,
            call,
            weights,
            optimizer,
            batch_size=options.batch_size,
            bounds=id_bounds(model, call, options.schema, options.slots),
            steps=options.parity_steps,
            seed=options.seed,
        )
        candidate.replace(out)
    sha256 = hashlib.sha256(content).hexdigest()
    return Conversion(out, sha256, len(content), parity, row_tables(weights.slotted, sha256))
