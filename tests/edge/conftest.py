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
from edge.learning.runtime import RUNTIMES, load_runtime, open_model
from edge.learning.trainer import Trainer
from protocol.rows import RowTable
from tests.edge.samples import SCHEMA
from tests.sharing import made_once

BATCH_SIZE = 16
SLOTS = 56


@dataclass(frozen=True)
class ModelFiles:
    """Converted files and their digests."""

    recommender: Path
    recommender_sha256: str
    classifier: Path
    classifier_sha256: str
    rows: RowTable | None = None


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny recommender and a tiny sample classifier."""
    return made_once(tmp_path_factory, "models", lambda folder: _convert_both(folder, {}))


@pytest.fixture(scope="session")
def slotted_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The same, with fewer slots than there are items."""
    return made_once(tmp_path_factory, "slotted", lambda folder: _convert_both(folder, {"item": SLOTS}))


def _convert_both(folder: Path, slots: dict[str, int]) -> ModelFiles:
    keras.utils.set_random_seed(1)
    model = din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(8,))
    content_dim = model.output["item_vector"].shape[-1]
    options = ConvertOptions(batch_size=BATCH_SIZE, schema=SCHEMA, slots=slots)
    recommender = convert(model, folder / "recommender.tflite", options)
    classifier = convert(
        sample_classifier(content_dim, hidden_units=(4,)),
        folder / "classifier.tflite",
        ConvertOptions(batch_size=BATCH_SIZE),
    )
    rows = recommender.rows.get("item")
    return ModelFiles(recommender.path, recommender.sha256, classifier.path, classifier.sha256, rows)


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
