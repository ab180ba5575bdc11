"""Shared by the device's tests: both models, converted once a session, in each runtime that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import pytest

from converters.convert import ConvertOptions, convert
from converters.zoo.classifier import sample_classifier
from converters.zoo.din import din
from edge.errors import RuntimeMissingError
from edge.runtime import RUNTIMES, load_runtime, open_model
from edge.trainer import Trainer
from tests.edge.samples import SCHEMA

BATCH_SIZE = 16


@dataclass(frozen=True)
class ModelFiles:
    """Converted files and their digests."""

    recommender: Path
    recommender_sha256: str
    classifier: Path
    classifier_sha256: str


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny recommender and a tiny sample classifier."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("models")
    model = din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(8,))
    content_dim = model.output["item_vector"].shape[-1]
    recommender = convert(model, folder / "recommender.tflite", ConvertOptions(batch_size=BATCH_SIZE, schema=SCHEMA))
    classifier = convert(
        sample_classifier(content_dim, hidden_units=(4,)),
        folder / "classifier.tflite",
        ConvertOptions(batch_size=BATCH_SIZE),
    )
    return ModelFiles(recommender.path, recommender.sha256, classifier.path, classifier.sha256)


@pytest.fixture(params=list(RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> str:
    """Each TFLite runtime in turn; skipped where it is not installed."""
    name: str = request.param
    try:
        load_runtime(name)
    except RuntimeMissingError as error:
        pytest.skip(str(error))
    return name


@pytest.fixture
def recommender(model_files: ModelFiles) -> Trainer:
    """h0 in the default runtime."""
    return Trainer(open_model(model_files.recommender))


@pytest.fixture
def classifier(model_files: ModelFiles) -> Trainer:
    """G in the default runtime."""
    return Trainer(open_model(model_files.classifier))
