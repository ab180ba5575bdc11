"""A world is made: h0 trained on the pool, it and its classifier converted, the pool indexed by what h0 says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from cloud_broker.models.classifier_training import prepared_classifier
from cloud_broker.models.publish import slots_for
from cloud_broker.options import ModelOptions
from converters.convert import ConvertOptions, convert
from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.h0 import train_h0
from evaluation.pool_files import (
    CLASSIFIER_FILE,
    FROZEN_FOLDER,
    POOL_FOLDER,
    RECOMMENDER_FILE,
    write_pool,
    write_row_table,
)
from evaluation.samples import Labels
from evaluation.split import Split
from evaluation.world import Progress, World
from protocol.rows import MAX_SLOTS

# More than a device is given by default: the random arm's samples have thrice the items of matched ones, and a control
# that lost some for lack of slots would be none.
SLOTS = MAX_SLOTS


def build_world(
    split: Split,
    folder: Path,
    *,
    labels: Labels,
    model: str = DEFAULT_RECOMMENDER,
    seed: int = 1,
    batch_size: int = 64,
    frozen: bool = True,
    progress: Progress | None = None,
) -> World:
    """Train h0 on the pool, convert it and its classifier through the parity gate, and index the pool.

    Args:
        split: The pool and the devices.
        folder: Where the files shall be.
        labels: What the labels mean.
        model: h0's network.
        seed: Of h0's training.
        batch_size: Samples in a device's training step.
        frozen: Whether to convert h0 a second time with its embeddings frozen, for the arms that tune that file.
        progress: Told what goes on.

    Raises:
        TrainingError: If the pool is too small, or training diverges.
        ConverterError: If a file does not do what TensorFlow does.
    """
    progress = progress or _silent
    folder.mkdir(parents=True, exist_ok=True)
    h0 = train_h0(split, labels, model=model, seed=seed, on_event=_epochs_told(progress))
    _convert_all(h0, split, folder, batch_size, seed=seed, frozen=frozen, progress=progress)
    write_pool(split.pool, split.pool_owner, folder / POOL_FOLDER)
    return World(folder, split, progress)


def _convert_all(
    model: keras.Model, split: Split, folder: Path, batch_size: int, *, seed: int, frozen: bool, progress: Progress
) -> None:
    files = 3 if frozen else 2
    progress("convert", 0, files)
    options = ConvertOptions(
        batch_size=batch_size,
        schema=split.schema,
        slots=slots_for(split.schema, SLOTS),
        trainable=ModelOptions().trainable,
    )
    _convert_recommender(model, folder, options)
    progress("convert", 1, files)
    if frozen:
        _convert_recommender(model, folder / FROZEN_FOLDER, replace(options, trainable="head"))
        progress("convert", 2, files)
    classifier = prepared_classifier(model, split.pool, split.pool_owner, seed=seed)
    convert(classifier, folder / CLASSIFIER_FILE, ConvertOptions(batch_size=batch_size))
    progress("convert", files, files)


def _convert_recommender(model: keras.Model, folder: Path, options: ConvertOptions) -> None:
    folder.mkdir(exist_ok=True)
    for rows in convert(model, folder / RECOMMENDER_FILE, options).rows.values():
        write_row_table(rows, folder)


def _epochs_told(progress: Progress) -> Callable[[dict[str, Any]], None]:
    return lambda event: progress("train h0", event["epoch"], event["epochs"])


def _silent(*_: Any) -> None:
    pass
