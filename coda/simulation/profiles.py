"""What simulated devices ask for: profiles of made-up samples, as the published recommender sees them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.vectors import Embedder
from cloud_broker.models.registry import Registry
from cloud_broker.storage.place import Place
from coda.simulation.errors import SimulationError
from protocol.messages import Query
from protocol.samples import SampleBatch, empty_batch
from protocol.schema import FeatureKind, FeatureSchema
from protocol.topics import MAX_CHUNK_BYTES

_POINTS = 2048
_BYTES_A_NUMBER = 2  # a profile is float16


@dataclass(frozen=True)
class Profiles:
    """Queries of one model.

    Attributes:
        schema: Of the samples that are asked for.
        model_sha256: The recommender.
        vectors: float16 [n, d], of which each query takes some for centroids.
    """

    schema: FeatureSchema
    model_sha256: str
    vectors: NDArray[np.float16]

    def query(self, query_id: str, rng: np.random.Generator, *, centroids: int, samples: int, max_bytes: int) -> Query:
        """A query of that id; ``centroids`` points of the profile at equal weights."""
        chosen = self.vectors[rng.integers(0, len(self.vectors), centroids)]
        weights = (1.0 / centroids,) * centroids
        width = self.vectors.shape[1]
        return Query(
            query_id,
            1,
            self.model_sha256,
            width,
            chosen.astype("<f2").tobytes(),
            weights,
            samples,
            max_bytes,
            zstd=True,
            inline_bytes=MAX_CHUNK_BYTES,
        )


def published_profiles(where: Place | Path, seed: int) -> Profiles:
    """Profiles for the live model of a cloud.

    Raises:
        SimulationError: If no model is published there.
    """
    with closing(Registry(where)) as registry:
        model = registry.latest()
        if model is None:
            raise SimulationError(f"no model is published in {Place.of(where).state_dir}: start the cloud first")
        batch = made_up(model.schema, _POINTS, np.random.default_rng(seed))
        path = registry.blobs.path(model.recommender.sha256)
        vectors = Embedder(path, rows=registry.row_file(model)).vectors(batch)
    return Profiles(model.schema, model.recommender.sha256, vectors.astype(np.float16))


def made_up(schema: FeatureSchema, samples: int, rng: np.random.Generator) -> SampleBatch:
    """Samples whose ids are drawn evenly from their vocabularies, and whose numbers are normal."""
    batch = empty_batch(schema, samples)
    features = {}
    for feature in schema.features:
        zeros = batch.features[feature.name]
        if feature.kind is FeatureKind.DENSE:
            features[feature.name] = rng.standard_normal(zeros.shape).astype(zeros.dtype)
        else:
            features[feature.name] = rng.integers(1, feature.vocabulary, zeros.shape).astype(zeros.dtype)
    return SampleBatch(schema, features, batch.label, batch.time_s)
