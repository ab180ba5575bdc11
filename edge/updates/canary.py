"""A few samples and what the running release makes of them, kept so that the next release can be held against it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.config import EdgeConfig
from edge.errors import StoreError, UpdateError
from edge.learning.recommender import Recommender, latest_that_fit
from edge.learning.runtime import open_model
from edge.learning.sampling import Group, MixedSampler
from edge.local_api.ranker import ServedModel
from edge.storage.arrays import pack_arrays, unpack_arrays
from edge.storage.store import Store
from hardware.durable import write_private
from protocol.batch_codec import decode_batch, encode_plain
from protocol.errors import ProtocolError
from protocol.messages import Task
from protocol.recipe import Recipe
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureSchema

MAX_SAMPLES = 64
TOLERANCE = 1e-3  # of a logit, absolute and relative: another runtime rounds otherwise, another ranking does not
_MADE_UP = 8


class Canary:
    """What a release must be able to do with the model that is served.

    Args:
        config: Names the runtime.
        store: Holds the model and the samples.
        path: Where the samples, and what they were given, lie.
    """

    def __init__(self, config: EdgeConfig, store: Store, path: Path) -> None:
        self._config = config
        self._store = store
        self._path = path

    def keep(self) -> None:
        """Rank with the running release, and keep that; nothing is kept before the first round.

        Raises:
            StoreError: If the disk fails.
            EdgeError: If the model cannot be opened.
        """
        self._path.unlink(missing_ok=True)
        task = self._task()
        if task is None:
            return
        samples = self._samples(task)
        version, logits = self._rank(task, samples)
        packed = np.frombuffer(encode_plain(samples, zstd=False), np.uint8)
        named = np.frombuffer(version.encode(), np.uint8)
        write_private(self._path, pack_arrays({"samples": packed, "logits": logits, "version": named}))

    def check_ranking(self, *, same: bool) -> str:
        """Rank the kept samples, or others where there are none, with this release.

        Args:
            same: Whether logits have to be what they were.

        Returns:
            What was seen, for the report.

        Raises:
            UpdateError: If a score is no number, or another than before.
            EdgeError: If the model cannot be opened.
        """
        task = self._task()
        if task is None:
            return "ranking was not tried, as no model is served yet"
        samples, before, version_before = self._kept(task)
        version, logits = self._rank(task, samples)
        if not np.isfinite(logits).all():
            wrong = int((~np.isfinite(logits)).sum())
            raise UpdateError(f"it ranks with scores that are no numbers, for {wrong} of {len(logits)} candidates")
        if before is None or version != version_before or not same:
            return f"it ranked {len(logits)} candidates"
        error = float(np.abs(logits - before).max())
        if not np.allclose(logits, before, rtol=TOLERANCE, atol=TOLERANCE):
            raise UpdateError(f"it ranks otherwise than the release before: logits differ by up to {error:.3g}")
        return f"it ranked {len(logits)} candidates as the release before did"

    def check_training(self) -> str:
        """Take one gradient step with this release, on weights that are thrown away.

        Raises:
            UpdateError: If the loss or a weight is no number.
            EdgeError: If the model cannot be opened.
        """
        task, serving = self._task(), self._store.rounds.serving()
        if task is None or serving is None:
            return "training was not tried"
        path = self._store.blobs.path(serving.model_sha256)
        model = open_model(path, serving.model_sha256, self._config.threads, runtime=self._config.runtime)
        samples = self._samples(task)
        ready = Recommender(model, task.rows, self._store.rows).prepare(samples, empty_batch(samples.schema))
        columns = {**ready.local.features, "label": ready.local.label}
        sampler = MixedSampler(columns, [Group(np.arange(len(ready.local)), 1.0)], np.random.default_rng(0))
        losses = ready.trainer.fit(sampler, 1, Recipe.from_dict(task.recipe).learning_rate)
        finite = all(np.isfinite(weight).all() for weight in ready.trainer.snapshot().values())
        if not np.isfinite(losses).all() or not finite:
            raise UpdateError("it trains to numbers that are none")
        return "trained one step"

    def _task(self) -> Task | None:
        return None if self._store.rounds.serving() is None else self._store.rounds.served_task()

    def _rank(self, task: Task, samples: SampleBatch) -> tuple[str, NDArray[np.float32]]:
        serving = self._store.rounds.serving()
        assert serving is not None
        served = ServedModel(self._store, serving, task, self._config.runtime, self._config.threads)
        return served.version, served.logits(samples)[0]

    def _samples(self, task: Task) -> SampleBatch:
        """The device's own, the latest; made-up ones where it has none."""
        schema = FeatureSchema.from_dict(task.features)
        local = latest_that_fit(self._store.samples.all(schema), task.rows)
        if len(local):
            return local.take(slice(-MAX_SAMPLES, None))
        zeros = {f.name: np.zeros(f.shape(_MADE_UP), f.dtype) for f in schema.features}
        labels = (np.arange(_MADE_UP) % 2).astype(np.float32)
        return SampleBatch(schema, zeros, labels, np.zeros(_MADE_UP, np.int64))

    def _kept(self, task: Task) -> tuple[SampleBatch, NDArray[np.float32] | None, str]:
        try:
            arrays = unpack_arrays(self._path.read_bytes())
            samples = decode_batch(arrays["samples"].tobytes(), FeatureSchema.from_dict(task.features))
            return samples, arrays["logits"], arrays["version"].tobytes().decode()
        except (OSError, StoreError, ProtocolError, KeyError, UnicodeDecodeError):
            return self._samples(task), None, ""  # damaged, or of a release that kept it otherwise
