"""The cloud's side of an evaluation: the pool indexed, each device's matched samples found.

Everything a worker process needs lies in one folder: the two model files and the pool's columns, which workers map
instead of copying. `evaluation.building` fills it, and alone needs TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.byte_budget import encode_within
from cloud_broker.matching.matcher import PoolView
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.matching.vectors import Embedder
from cloud_broker.pool.columns import content_keys
from edge.learning.profile import build_profile
from edge.learning.recommender import latest_that_fit
from edge.learning.runtime import file_sha256
from evaluation.pool_files import (
    RECOMMENDER_FILE,
    map_row_table,
    open_recommender,
)
from evaluation.split import Device, Split
from evaluation.worker import NEAREST_OF, Found
from protocol.opinions import pack_opinions
from protocol.recipe import Recipe
from protocol.samples import empty_batch

_ROWS_A_STEP = 16_384
_VECTORS_FILE = "vectors.npy"

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


def _silent(*_: Any) -> None:
    pass
