"""Shared by the converter's tests: a small schema and files converted once a session."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import keras
import pytest
import tensorflow as tf

from converters.convert import Conversion, ConvertOptions, convert
from converters.zoo.classifier import sample_classifier
from converters.zoo.din import din
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.sharing import made_once

# A reference runs each of its graphs at most fifty times: to optimise it takes longer than that saves.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

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
    """A small recommender with its initial weights, the same in every process."""
    keras.utils.set_random_seed(1)
    return din(SCHEMA, embedding_dim=4, attention_units=(8,), hidden_units=(8, 4))


@pytest.fixture(scope="session")
def classifier_model() -> object:
    """A small sample classifier with its initial weights, the same in every process."""
    keras.utils.set_random_seed(1)
    return sample_classifier(8, hidden_units=(4,))


@pytest.fixture(scope="session")
def din_file(din_model: object, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The recommender, converted with every weight trainable."""
    options = ConvertOptions(batch_size=8, schema=SCHEMA)
    return made_once(tmp_path_factory, "din", lambda folder: convert(din_model, folder / "din.tflite", options))


@pytest.fixture(scope="session")
def classifier_file(classifier_model: object, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The classifier, converted."""
    options = ConvertOptions(batch_size=8)
    return made_once(tmp_path_factory, "g", lambda folder: convert(classifier_model, folder / "g.tflite", options))
