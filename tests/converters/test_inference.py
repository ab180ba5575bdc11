"""Files that only infer, with weights in 32, 16 and 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters.errors import AccuracyError, ConversionError, UnsupportedOpError
from converters.inference import BOUNDS, Exported, export_for_inference
from converters.inspect import inspect_file
from converters.runtimes import installed_runtimes
from converters.zoo.deepfm import deepfm
from converters.zoo.din import din
from protocol.schema import Feature, FeatureKind, FeatureSchema

SCHEMA = FeatureSchema(
    (
        Feature("item", FeatureKind.CATEGORICAL, 1, 3000, "item"),
        Feature("genres", FeatureKind.MULTIVALUED, 3, 8, "genre"),
        Feature("liked", FeatureKind.SEQUENCE, 5, 3000, "item"),
        Feature("disliked", FeatureKind.SEQUENCE, 5, 3000, "item"),
    )
)


def _recurrent() -> Any:
    ids = keras.Input((4,), dtype="int32", name="ids")
    hidden = keras.layers.GRU(6)(keras.layers.Embedding(300, 8)(ids))
    return keras.Model({"ids": ids}, keras.layers.Dense(1, activation="sigmoid")(hidden))


MODELS: dict[str, Callable[[], Any]] = {
    "din": lambda: din(SCHEMA, embedding_dim=8),
    "deepfm": lambda: deepfm(SCHEMA, hidden_units=(40, 20)),
    "recurrent": _recurrent,
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Exported]:
    """Every model with every kind of weights."""
    folder, found = tmp_path_factory.mktemp("exports"), {}
    for name, build in MODELS.items():
        keras.utils.set_random_seed(1)
        model, schema = build(), None if name == "recurrent" else SCHEMA
        for weights in BOUNDS:
            out = folder / f"{name}-{weights}.tflite"
            found[name, weights] = export_for_inference(model, out, weights, schema=schema)
    return found


@pytest.mark.parametrize("weights", BOUNDS)
@pytest.mark.parametrize("name", MODELS)
def test_an_export_says_what_the_model_says(name: str, weights: str, exports: dict[tuple[str, str], Exported]) -> None:
    """In every installed runtime, within the bound of its kind of weights."""
    exported = exports[name, weights]
    assert set(exported.errors) == {runtime.name for runtime in installed_runtimes()}
    assert max(exported.errors.values()) < BOUNDS[weights]
    assert exported.auc_loss is None


@pytest.mark.parametrize("weights", BOUNDS)
def test_an_export_only_infers(weights: str, exports: dict[tuple[str, str], Exported]) -> None:
    """Signatures `infer` and `embed` over any number of samples, no variable, no foreign op."""
    info = inspect_file(exports["din", weights].path)
    assert {signature.name for signature in info.signatures} == {"infer", "embed"}
    assert info.foreign_ops == ()
    assert (info.sha256, info.size_bytes) == (exports["din", weights].sha256, exports["din", weights].size_bytes)
    for signature in info.signatures:
        assert not {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"} & set(signature.ops)
        assert {tensor.shape[0] for tensor in signature.inputs} == {None}


def test_fewer_bits_make_a_smaller_file(exports: dict[tuple[str, str], Exported]) -> None:
    """The weights themselves take half and nearly a quarter of their bytes."""
    bytes_of = {w: inspect_file(exports["deepfm", w].path).constant_bytes for w in BOUNDS}
    assert bytes_of["float16"] < 0.6 * bytes_of["float32"]
    assert bytes_of["int8"] < 0.6 * bytes_of["float16"]


@pytest.mark.parametrize("weights", BOUNDS)
def test_an_empty_history_is_no_special_case(weights: str, tmp_path: Path) -> None:
    """Narrow weights leave alone what keeps a division by zero finite."""
    samples = {f.name: np.zeros(f.shape(4), f.dtype) for f in SCHEMA.features}
    exported = export_for_inference(MODELS["din"](), tmp_path / "m.tflite", weights, samples=samples)
    assert max(exported.errors.values()) < BOUNDS[weights]


def _ranker(slope: float) -> Any:
    x = keras.Input((1,), name="x")
    score = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(slope), name="score")
    return keras.Model({"x": x}, {"logit": score(x)})


@pytest.mark.parametrize(("slope", "auc"), [(1.0, 0.875), (-1.0, 0.125), (0.0, 0.5)])
def test_the_loss_in_auc_is_measured_with_labels(slope: float, auc: float, tmp_path: Path) -> None:
    """Of four pairs of a positive and a negative, three are in order and one is tied; this file loses nothing."""
    x = np.array([[0.1], [0.4], [0.4], [0.8]], np.float32)
    labels = np.array([0, 0, 1, 1], np.float32)
    exported = export_for_inference(_ranker(slope), tmp_path / "m.tflite", samples={"x": x}, labels=labels)
    assert exported.auc == pytest.approx(auc)
    assert exported.auc_loss is not None
    assert set(exported.auc_loss) == {runtime.name for runtime in installed_runtimes()}
    assert max(abs(loss) for loss in exported.auc_loss.values()) < 1e-9
    assert exported.to_dict()["bound"] == BOUNDS["float32"]


X = np.zeros((3, 1), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "int4"}, "not one of float32, float16, int8"),
        ({"samples": {"y": X}}, "lack the model's inputs x"),
        ({"samples": {"x": X[:, 0]}}, r"x is \(3,\), not \(3, 1\)"),
        ({"labels": [0, 1, 1]}, "give the samples"),
        ({"samples": {"x": X}, "labels": [0, 1]}, "3 zeros and ones"),
        ({"samples": {"x": X}, "labels": [1, 1, 1]}, "some of each"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Each is named, and nothing is written."""
    with pytest.raises(ConversionError, match=message):
        export_for_inference(_ranker(1.0), tmp_path / "m.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_export_beyond_its_bound_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the runtimes and the bound; the folder stays as it was."""
    monkeypatch.setitem(BOUNDS, "float16", 1e-9)
    with pytest.raises(AccuracyError, match="the bound is 1e-09") as caught:
        export_for_inference(_recurrent(), tmp_path / "m.tflite", "float16")
    assert set(caught.value.errors) == {runtime.name for runtime in installed_runtimes()}
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_lowered_is_refused_for_inference_too(tmp_path: Path) -> None:
    """The error names the layer and the way out."""
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Lambda(keras.ops.erfinv, name="inverse")(keras.layers.Dense(2, activation="tanh")(x))
    model = keras.Model({"x": x}, {"logit": keras.layers.Dense(1)(hidden)})
    with pytest.raises(UnsupportedOpError, match=r"layer inverse: Erfinv .*docs/layers\.md"):
        export_for_inference(model, tmp_path / "m.tflite")


def test_what_cannot_train_may_still_infer(tmp_path: Path) -> None:
    """Exact gelu is a builtin operation; only its gradient is not."""
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(2, activation="gelu")(x)
    model = keras.Model({"x": x}, {"logit": keras.layers.Dense(1)(hidden)})
    assert max(export_for_inference(model, tmp_path / "m.tflite").errors.values()) < BOUNDS["float32"]
