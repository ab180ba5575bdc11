"""Samples for a pool of any size, and the h0 that embeds them.

MovieLens' small set has 100,836 ratings, so a pool of 10 million is made of what h0 would be asked: each of the states
that its users' histories were in when they liked something, with the item that they liked, and with items that they
never rated, drawn by popularity, as the implicit labels of an evaluation are, only with more of them. Histories and
items are real and so is every vector of h0; most pairs of the two never happened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_broker.models.publish import train_on
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given
from converters.convert import ConvertOptions, convert
from evaluation.datasets import load_dataset
from evaluation.interactions import Interactions
from evaluation.samples import Labels, build_samples
from protocol.samples import SampleBatch

EMBEDDING_DIM = 16  # user and item side by side: vectors of 32
ASKERS = 60  # users whose samples are in no pool
_NEGATIVES = 9  # a round; as many rounds as it takes


@dataclass(frozen=True)
class Model:
    """h0, converted."""

    path: Path
    sha256: str


class Material:
    """MovieLens' small set, divided into those who contribute and those who ask."""

    def __init__(self) -> None:
        self._data: Interactions = load_dataset("ml-latest-small", seed=1)
        users = np.random.default_rng(1).permutation(self._data.users)
        self._askers = np.sort(users[:ASKERS])
        self.schema = build_samples(self._data, Labels.EXPLICIT).batch.schema

    def model(self, folder: Path) -> Model:
        """h0 of all contributors, trained and converted once a folder; its file holds the whole catalogue."""
        path = folder / "h0.tflite"
        if not path.exists():
            samples = build_samples(self._data, Labels.IMPLICIT)
            mine = ~np.isin(samples.owner, self._askers)
            options = ModelOptions(embedding_dim=EMBEDDING_DIM)
            h0, _ = train_on(samples.batch.take(mine), samples.owner[mine], options, lambda _event: None)
            convert(h0, path, ConvertOptions(batch_size=64, schema=self.schema))
        return Model(path, hashlib.sha256(path.read_bytes()).hexdigest())

    def gifts(self, begin_round: int = 0) -> Iterator[Given]:
        """What contributors give, one user in one round each, without end."""
        number = begin_round
        while True:
            samples = build_samples(self._data, Labels.IMPLICIT, negatives=_NEGATIVES, seed=number)
            # What was liked comes once; later rounds only draw other items.
            fresh = (samples.batch.label == 0) | (number == 0)
            for user in np.setdiff1d(np.unique(samples.owner), self._askers):
                rows = np.flatnonzero(fresh & (samples.owner == user))
                yield Given(f"user-{user}-{number}", samples.batch.take(rows), f"round-{number}")
            number += 1

    def askers(self) -> list[SampleBatch]:
        """The samples of each user who asks."""
        samples = build_samples(self._data, Labels.IMPLICIT)
        return [samples.batch.take(samples.owner == user) for user in self._askers]
