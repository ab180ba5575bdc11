"""Shared by the converter's tests: a small schema and files converted once a session."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf

from converters.convert import Conversion, ConvertOptions, convert
from converters.zoo.classifier import sample_classifier
from converters.zoo.din import din
from protocol.schema import Feature, FeatureKind, FeatureSchema

# A reference runs each of its graphs at most fifty times: to optimise it takes longer than that saves.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# What is imported by now stays, so no collection need look at it again.
gc.freeze()

SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, 1, 50, "item"),
        Feature("genres", FeatureKind.MULTIVALUED, 3, 8, "genre"),
        Feature("liked", FeatureKind.SEQUENCE, 5, 50, "item"),
        Feature("disliked", FeatureKind.SEQUENCE, 5, 50, "item"),
    )
)


@pytest.fixture(scope="session")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Two processes for conversions, which take most of these tests' time."""
    executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    yield executor
    executor.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def din_model() -> object:
    """A small recommender with its initial weights."""
    return din(SCHEMA, embedding_dim=4, attention_units=(8,), hidden_units=(8, 4))


@pytest.fixture(scope="session")
def classifier_model() -> object:
    """A small sample classifier with its initial weights."""
    return sample_classifier(8, hidden_units=(4,))


@pytest.fixture(scope="session")
def din_file(din_model: object, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The recommender, converted with every weight trainable."""
    return convert(
        din_model, Path(tmp_path_factory.mktemp("din")) / "din.tflite", ConvertOptions(batch_size=8, schema=SCHEMA)
    )


@pytest.fixture(scope="session")
def classifier_file(classifier_model: object, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The classifier, converted."""
    return convert(
        classifier_model, Path(tmp_path_factory.mktemp("g")) / "classifier.tflite", ConvertOptions(batch_size=8)
    )
