"""Makes a job: a model over a MovieLens-like schema, converted, and samples with a long tail of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from benchmarks.training.job import Array, Job
from benchmarks.training.models import build
from benchmarks.training.sampling import sampler
from converters.convert import ConvertOptions, convert
from protocol.rows import RowTable
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema
from protocol.slots import SlotMap

SAMPLES = 1000  # of one user's own and matched ones
GENRES = 20
GENRES_OF_AN_ITEM = 6
HISTORY = 20
_MODEL_SEED, _SAMPLE_SEED = 1, 2


def prepare(job: Job, options: Mapping[str, Any] | None = None) -> Job:
    """Fill the job's folder.

    Args:
        job: Its folder exists.
        options: Of the conversion, beside the job's own.
    """
    schema = movielens_like(job.items)
    keras.utils.set_random_seed(_MODEL_SEED)
    model = build(job.model, schema, job.embedding_dim)
    given = ConvertOptions(batch_size=job.batch_size, schema=schema, trainable=job.trainable)
    done = convert(model, job.tflite, replace(given, **(options or {})))
    model.save(job.keras)
    job.save_weights({v.path: np.array(v) for v in model.variables})
    columns = {name: c for name, c in samples(job.items).items() if name in (*model.input, "label")}
    for rows in done.rows.values():
        columns = to_slots(job, schema, rows, columns)
    job.save_samples(columns, sampler(columns, job.sampling_seed).draw(job.steps, job.batch_size))
    job.save()
    return job


def to_slots(job: Job, schema: FeatureSchema, rows: RowTable, columns: dict[str, Array]) -> dict[str, Array]:
    """The samples that fit, with slots for ids, as on a device; the rows of these ids go to the job's folder."""
    features = {feature.name: columns[feature.name] for feature in schema.features}
    batch = SampleBatch(schema, features, columns["label"], np.zeros(len(columns["label"]), np.int64))
    slots = SlotMap(schema, rows.description)
    fitting = batch.take(slots.admit(batch))
    np.savez(job.rows, **slots.arrays(rows.values[slots.ids]))
    return {**slots.remap(fitting).features, "label": fitting.label}


def movielens_like(items: int) -> FeatureSchema:
    """The schema of MovieLens, with a catalogue of ``items`` (padding included)."""
    return FeatureSchema(
        (
            Feature("item", FeatureKind.CATEGORICAL, 1, items, "item"),
            Feature("genres", FeatureKind.MULTIVALUED, GENRES_OF_AN_ITEM, GENRES, "genre"),
            Feature("liked", FeatureKind.SEQUENCE, HISTORY, items, "item"),
            Feature("disliked", FeatureKind.SEQUENCE, HISTORY, items, "item"),
        )
    )


def samples(items: int, count: int = SAMPLES) -> dict[str, Array]:
    """Columns of ``count`` samples: popular items come more often; histories and genres are of any length."""
    rng = np.random.default_rng(_SAMPLE_SEED)

    def popular(*shape: int) -> NDArray[np.int32]:
        # Log-uniform ranks: item r comes about 1 / r times as often as the first, as in Zipf's law.
        ranks: NDArray[np.float64] = np.exp(rng.random(shape) * np.log(items - 1))
        return ranks.astype(np.int32)

    def padded(ids: NDArray[np.int32], *, in_front: bool) -> NDArray[np.int32]:
        length = ids.shape[1]
        places = np.arange(length)[:: -1 if in_front else 1]
        present = places < rng.integers(1, length + 1, (count, 1))
        kept: NDArray[np.int32] = np.where(present, ids, 0)
        return kept

    genres = rng.integers(1, GENRES, (count, GENRES_OF_AN_ITEM), dtype=np.int32)
    return {
        "item": popular(count),
        "genres": padded(genres, in_front=False),
        "liked": padded(popular(count, HISTORY), in_front=True),
        "disliked": padded(popular(count, HISTORY), in_front=True),
        "label": (rng.random(count) < 0.3).astype(np.float32),
    }
