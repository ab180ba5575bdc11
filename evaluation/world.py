"""The cloud's side of an evaluation: h0 trained and converted, the pool indexed, each device's matched samples found.

Everything a worker process needs lies in one folder: the two model files and the pool's columns, which workers map
instead of copying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.byte_budget import encode_within
from cloud_broker.matching.matcher import PoolView
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.matching.vectors import Embedder
from cloud_broker.models.classifier_training import prepared_classifier
from cloud_broker.models.publish import slots_for
from cloud_broker.options import ModelOptions
from cloud_broker.pool.columns import content_keys
from converters.convert import ConvertOptions, convert
from converters.zoo.names import DEFAULT_RECOMMENDER
from edge.learning.profile import build_profile
from edge.learning.recommender import latest_that_fit
from edge.learning.runtime import file_sha256
from evaluation.h0 import train_h0
from evaluation.pool_files import (
    CLASSIFIER_FILE,
    FROZEN_FOLDER,
    POOL_FOLDER,
    RECOMMENDER_FILE,
    map_row_table,
    open_recommender,
    write_pool,
    write_row_table,
)
from evaluation.samples import Labels
from evaluation.split import Device, Split
from evaluation.worker import NEAREST_OF, Found
from protocol.opinions import pack_opinions
from protocol.recipe import Recipe
from protocol.rows import MAX_SLOTS
from protocol.samples import empty_batch

_ROWS_A_STEP = 16_384
_VECTORS_FILE = "vectors.npy"
# More than a device is given by default: the random arm's samples have thrice the items of matched ones, and a control
# that lost some for lack of slots would be none.
SLOTS = MAX_SLOTS

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class World:
    """A cloud that knows its pool.

    Attributes:
        folder: Where its files are.
        split: The pool and the devices.
    """

    def __init__(self, folder: Path, split: Split, progress: Progress | None = None) -> None:
        """Index the pool by the vectors of the model in ``folder``."""
        self.folder = folder
        self.split = split
        self._device_side = open_recommender(folder)
        vectors = _vectors(folder, split, progress or _silent)
        view = PoolView(vectors, split.pool_owner, content_keys(split.pool), labels=split.pool.label)
        self._matcher = ProfileMatcher(view)
        opinions = Opinions(split.pool.features["item"], split.pool_owner)
        self._by_agreement = AgreementMatcher(replace(view, opinions=opinions))

    def find(self, device: Device, recipe: Recipe, *, by_agreement: bool = False) -> Found:
        """What the cloud answers to the device's query, in bytes and samples no more than the recipe allows.

        Args:
            device: Who asks.
            recipe: What for.
            by_agreement: Whether to answer a query with the device's opinions, too.
        """
        none = np.zeros(0, np.int64)
        if len(device.local) == 0:
            return Found(none, none, none, none, 0)
        local = latest_that_fit(device.local, self._device_side.table)
        ready = self._device_side.prepare(local, empty_batch(local.schema))
        profile = build_profile(ready.trainer, ready.local, recipe)
        query = profile.query(f"user-{device.user}", 1, self._device_side.model.sha256, recipe)
        ranked = self._matcher.rank(query, device.user)
        matched, payload = encode_within(self.split.pool.take, ranked, recipe.match_bytes)
        nearest, agreed = np.sort(ranked[: len(matched) // NEAREST_OF]), none
        if by_agreement:
            said = replace(query, opinions=pack_opinions(local.features["item"], local.label))
            agreed, _ = encode_within(
                self.split.pool.take, self._by_agreement.rank(said, device.user), recipe.match_bytes
            )
        return Found(matched, nearest, self._random_rows(device, len(matched), recipe), agreed, len(payload))

    def _random_rows(self, device: Device, count: int, recipe: Recipe) -> NDArray[np.int64]:
        rng = np.random.default_rng([recipe.seed, device.user])
        foreign = np.flatnonzero(self.split.pool_owner != device.user)
        return np.sort(rng.choice(foreign, min(count, len(foreign)), replace=False)).astype(np.int64)


def build_world(
    split: Split,
    folder: Path,
    *,
    labels: Labels,
    model: str = DEFAULT_RECOMMENDER,
    seed: int = 1,
    batch_size: int = 64,
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
        progress: Told what goes on.

    Raises:
        TrainingError: If the pool is too small, or training diverges.
        ConverterError: If a file does not do what TensorFlow does.
    """
    progress = progress or _silent
    folder.mkdir(parents=True, exist_ok=True)
    h0 = train_h0(split, labels, model=model, seed=seed, on_event=_epochs_told(progress))
    _convert_all(h0, split, folder, batch_size, seed=seed, progress=progress)
    write_pool(split.pool, split.pool_owner, folder / POOL_FOLDER)
    return World(folder, split, progress)


def _convert_all(
    model: keras.Model, split: Split, folder: Path, batch_size: int, *, seed: int, progress: Progress
) -> None:
    progress("convert", 0, 3)
    options = ConvertOptions(
        batch_size=batch_size,
        schema=split.schema,
        slots=slots_for(split.schema, SLOTS),
        trainable=ModelOptions().trainable,
    )
    _convert_recommender(model, folder, options)
    progress("convert", 1, 3)
    _convert_recommender(model, folder / FROZEN_FOLDER, replace(options, trainable="head"))
    progress("convert", 2, 3)
    classifier = prepared_classifier(model, split.pool, split.pool_owner, seed=seed)
    convert(classifier, folder / CLASSIFIER_FILE, ConvertOptions(batch_size=batch_size))
    progress("convert", 3, 3)


def _convert_recommender(model: keras.Model, folder: Path, options: ConvertOptions) -> None:
    folder.mkdir(exist_ok=True)
    for rows in convert(model, folder / RECOMMENDER_FILE, options).rows.values():
        write_row_table(rows, folder)


def _vectors(folder: Path, split: Split, progress: Progress) -> NDArray[np.float32]:
    file = folder / _VECTORS_FILE
    if not file.exists():
        np.save(file, _embed(folder, split, progress), allow_pickle=False)
    vectors: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    return vectors


def _embed(folder: Path, split: Split, progress: Progress) -> NDArray[np.float32]:
    file = folder / RECOMMENDER_FILE
    embedder, pieces = Embedder(file, rows=map_row_table(folder, file_sha256(file))), []
    for begin in range(0, len(split.pool), _ROWS_A_STEP):
        progress("index", begin, len(split.pool))
        pieces.append(embedder.vectors(split.pool.take(slice(begin, begin + _ROWS_A_STEP))))
    progress("index", len(split.pool), len(split.pool))
    return np.concatenate(pieces)


def _epochs_told(progress: Progress) -> Callable[[dict[str, Any]], None]:
    return lambda event: progress("train h0", event["epoch"], event["epochs"])


def _silent(*_: Any) -> None:
    pass
