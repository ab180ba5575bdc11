"""Opening model files in whichever runtime there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ModelFileError, RuntimeMissingError
from edge.learning.runtime import RUNTIME_VARIABLE, RUNTIMES, load_runtime, open_model, runtime_name, runtime_version
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.edge.conftest import BATCH_SIZE, ModelFiles
from tests.edge.samples import SCHEMA, samples


def test_a_file_opens_in_each_runtime(model_files: ModelFiles, runtime: str) -> None:
    """The same file has the same face in both."""
    model = open_model(model_files.recommender, model_files.recommender_sha256, runtime=runtime)
    model.check_features(SCHEMA)
    assert model.feature_names == ("disliked", "genres", "item", "liked")
    assert model.batch_size == BATCH_SIZE
    assert model.embeds
    assert model.sha256 == model_files.recommender_sha256


def test_runtimes_agree(model_files: ModelFiles, runtime: str) -> None:
    """Logits equal those of the preferred runtime; vectors have unit length."""
    features = samples(40).features
    logits = open_model(model_files.recommender, runtime=runtime).infer(features)
    assert logits == pytest.approx(open_model(model_files.recommender).infer(features), abs=1e-5)
    users, items = open_model(model_files.recommender, runtime=runtime).embed(features)
    assert np.linalg.norm(users, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert np.linalg.norm(items, axis=1) == pytest.approx(1.0, abs=1e-4)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    """`CODA_RUNTIME` names the runtime, an argument overrides it, and an unknown name says which there are."""
    monkeypatch.setenv(RUNTIME_VARIABLE, runtime)
    assert runtime_name() == runtime
    assert runtime_version()[0].isdigit()
    monkeypatch.setenv(RUNTIME_VARIABLE, "tensorrt")
    assert runtime_name(runtime) == runtime
    with pytest.raises(RuntimeMissingError, match=f"tensorrt.*{next(iter(RUNTIMES))}"):
        load_runtime()


def test_a_wrong_digest_is_refused(model_files: ModelFiles) -> None:
    """The error names the file, both digests and the remedy; nothing is loaded."""
    with pytest.raises(ModelFileError, match=r"recommender\.tflite.*was promised.*delete it"):
        open_model(model_files.recommender, "0" * 64)


@pytest.mark.parametrize("content", [b"", b"not a model" * 100], ids=["empty", "other"])
def test_a_file_that_is_no_model_is_refused(runtime: str, tmp_path: Path, content: bytes) -> None:
    """Whatever the runtime would say, our error names the file."""
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"broken\.tflite"):
        open_model(path, runtime=runtime)


def test_a_truncated_file_never_reaches_the_runtime(model_files: ModelFiles, runtime: str, tmp_path: Path) -> None:
    """The digest is checked first: tflite-runtime 2.14 ends the whole process over such a file."""
    path = tmp_path / "broken.tflite"
    path.write_bytes(model_files.recommender.read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="was promised"):
        open_model(path, model_files.recommender_sha256, runtime=runtime)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """The system's reason is passed on."""
    with pytest.raises(ModelFileError, match="No such file"):
        open_model(tmp_path / "none.tflite")


def test_samples_that_do_not_fit_are_refused(model_files: ModelFiles) -> None:
    """A schema whose features differ from the model's inputs is named."""
    other = FeatureSchema((Feature("item", FeatureKind.CATEGORICAL, 1, 60, "item"),))
    with pytest.raises(ModelFileError, match=other.digest):
        open_model(model_files.recommender).check_features(other)


def test_foreign_weights_are_refused(model_files: ModelFiles) -> None:
    """Weights of another model are not put in, not even in part."""
    model = open_model(model_files.recommender)
    before = model.get_weights()
    with pytest.raises(ModelFileError, match="weights are not of model"):
        model.set_weights({**before, next(iter(before)): np.zeros(3, np.float32)})
    for name, value in model.get_weights().items():
        assert (value == before[name]).all()


def test_an_id_outside_its_table_is_a_clear_error(model_files: ModelFiles, runtime: str) -> None:
    """The runtime's own exception is turned into ours, and the model works on."""
    model = open_model(model_files.recommender, runtime=runtime)
    features = dict(samples(3).features)
    features["item"] = np.array([1, 2, 10**6], np.int32)
    with pytest.raises(ModelFileError, match="the runtime stopped"):
        model.infer(features)
    assert np.isfinite(model.infer(samples(3).features)).all()


def test_a_classifier_does_not_embed(model_files: ModelFiles) -> None:
    """Asking it for vectors says what is missing."""
    model = open_model(model_files.classifier)
    assert not model.embeds
    with pytest.raises(ModelFileError, match="no signature embed"):
        model.embed({})
