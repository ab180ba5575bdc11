"""Converted files of the zoo's two production models, run in every installed runtime."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters import parity
from converters.convert import Conversion, ConvertOptions, convert
from converters.errors import ConversionError, ParityError
from converters.gradients.registry import GRADIENTS
from converters.inspect import inspect_file
from converters.parity_report import RuntimeParity
from converters.runtimes import Runtime, installed_runtimes
from converters.zoo.din import din
from tests.converters.conftest import SCHEMA

FILES = ("din_file", "classifier_file")
both_runtimes = pytest.mark.parametrize("runtime", installed_runtimes(), ids=lambda runtime: str(runtime.name))
both_files = pytest.mark.parametrize("file", FILES)


def din_features(samples: int) -> dict[str, Any]:
    """Valid features of `SCHEMA`, reproducible."""
    rng = np.random.default_rng(3)
    return {f.name: rng.integers(0, f.vocabulary or 2, f.shape(samples)).astype(f.dtype) for f in SCHEMA.features}


@both_files
def test_parity_holds_in_every_installed_runtime(file: str, request: pytest.FixtureRequest) -> None:
    """The report compares at least 50 steps in each runtime, and names every weight."""
    conversion: Conversion = request.getfixturevalue(file)
    report = conversion.parity
    assert report.passed
    assert len(report.losses) >= 50
    assert [r.runtime for r in report.runtimes] == [r.name for r in installed_runtimes()]
    assert all(r.weight_errors and max(r.weight_errors.values()) < 1e-4 for r in report.runtimes)
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


@both_files
def test_a_file_has_builtin_ops_only(file: str, request: pytest.FixtureRequest) -> None:
    """No Flex and no custom operation, so the runtimes from pip can run it."""
    conversion: Conversion = request.getfixturevalue(file)
    info = inspect_file(conversion.path)
    assert info.foreign_ops == ()
    assert all(signature.ops for signature in info.signatures)


@both_files
def test_a_conversion_names_its_bytes(file: str, request: pytest.FixtureRequest) -> None:
    """Digest and size are those of the file that lies on disk."""
    conversion: Conversion = request.getfixturevalue(file)
    content = conversion.path.read_bytes()
    assert (conversion.sha256, conversion.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@both_runtimes
def test_signatures_have_the_names_of_the_contract(runtime: Runtime, din_file: Conversion) -> None:
    """A device addresses inputs and outputs by these names."""
    signatures = runtime.open(din_file.path).get_signature_list()
    features = {f.name for f in SCHEMA.features}
    inputs = {name: set(signature["inputs"]) for name, signature in signatures.items()}
    outputs = {name: set(signature["outputs"]) for name, signature in signatures.items()}
    names = outputs["get_weights"]
    assert inputs == {
        "train": features | {"label", "weight", "learning_rate", "proximal"},
        "infer": features,
        "embed": features,
        "evaluate": features | {"label", "weight"},
        "get_weights": set(),
        "set_weights": names,
        "reset_optimizer": set(),
    }
    assert {"item_embedding_embeddings", "item_bias_embeddings", "score_kernel"} <= names
    assert outputs["infer"] == {"logit"}
    assert outputs["embed"] == {"user_vector", "item_vector"}
    assert outputs["evaluate"] == {"loss", "logit"}


@both_runtimes
def test_a_fresh_process_infers_as_keras_does(runtime: Runtime, din_file: Conversion, din_model: Any) -> None:
    """The file carries its initial weights: nothing must be set before the first inference."""
    module = runtime.module
    code = (
        "import sys, numpy as np\n"
        f"from {module} import Interpreter\n"
        "features = dict(np.load(sys.argv[1]))\n"
        "logit = Interpreter(sys.argv[2]).get_signature_runner('infer')(**features)['logit']\n"
        "np.save(sys.argv[3], logit)\n"
    )
    features = din_features(9)
    inputs, result = din_file.path.with_suffix(".npz"), din_file.path.with_suffix(f".{runtime.name}.npy")
    np.savez(inputs, **features)
    subprocess.run([sys.executable, "-c", code, inputs, din_file.path, result], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(result), din_model(features)["logit"], rtol=1e-4, atol=1e-6)


@both_runtimes
@pytest.mark.parametrize("samples", [1, 3, 100])
def test_infer_takes_any_number_of_samples(
    runtime: Runtime, samples: int, din_file: Conversion, din_model: Any
) -> None:
    """Logits and both vectors agree with Keras for other batches than the training batch."""
    interpreter, features = runtime.open(din_file.path), din_features(samples)
    expected = din_model(features)
    got = interpreter.get_signature_runner("infer")(**features) | interpreter.get_signature_runner("embed")(**features)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5)


@both_runtimes
def test_weights_go_out_and_come_back(runtime: Runtime, din_file: Conversion) -> None:
    """What get_weights gave, set_weights restores exactly after training moved it."""
    interpreter = runtime.open(din_file.path)
    get, put = interpreter.get_signature_runner("get_weights"), interpreter.get_signature_runner("set_weights")
    before = {name: value.copy() for name, value in get().items()}
    _train(interpreter, learning_rate=0.5)
    moved = get()
    assert any(not np.array_equal(moved[name], before[name]) for name in before)
    put(**before)
    after = get()
    assert all(np.array_equal(after[name], before[name]) for name in before)


@both_runtimes
def test_samples_without_weight_change_nothing(runtime: Runtime, din_file: Conversion) -> None:
    """A batch of weight zero has loss zero and leaves the weights as they are."""
    interpreter = runtime.open(din_file.path)
    before = interpreter.get_signature_runner("get_weights")()
    loss = _train(interpreter, weight=0.0)
    after = interpreter.get_signature_runner("get_weights")()
    assert loss == 0.0
    assert all(np.array_equal(after[name], before[name]) for name in before)


@both_runtimes
def test_the_proximal_pull_draws_weights_back_to_the_files_own(runtime: Runtime, din_file: Conversion) -> None:
    """With learning rate x proximal = 1 and no sample weight, one step restores the starting weights."""
    interpreter = runtime.open(din_file.path)
    before = {n: value.copy() for n, value in interpreter.get_signature_runner("get_weights")().items()}
    _train(interpreter, learning_rate=0.5)
    _train(interpreter, learning_rate=0.5, proximal=2.0, weight=0.0)
    after = interpreter.get_signature_runner("get_weights")()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-6)


def _train(interpreter: Any, *, learning_rate: float = 0.1, proximal: float = 0.0, weight: float = 1.0) -> float:
    rows = {"label": np.arange(8, dtype=np.float32) % 2, "weight": np.full(8, weight, np.float32)}
    scalars = {"learning_rate": np.float32(learning_rate), "proximal": np.float32(proximal)}
    return float(interpreter.get_signature_runner("train")(**din_features(8), **rows, **scalars)["loss"])


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("embeddings", {"item_embedding_embeddings", "genre_embedding_embeddings", "item_bias_embeddings"}),
        ("^score/", {"score_kernel", "score_bias"}),
    ],
)
def test_only_the_chosen_weights_train(trainable: str, expected: set[str], din_model: Any, tmp_path: Path) -> None:
    """Only the trainable set has weights in the file, and parity holds for it too."""
    options = ConvertOptions(batch_size=8, trainable=trainable, schema=SCHEMA)
    conversion = convert(din_model, tmp_path / "part.tflite", options)
    signatures = installed_runtimes()[0].open(conversion.path).get_signature_list()
    assert set(signatures["get_weights"]["outputs"]) == expected


def test_a_file_that_trains_apart_is_not_written(
    din_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong gradient fails the gate, names the runtime and the weight, and leaves the folder as it was."""
    monkeypatch.setitem(GRADIENTS, "Tanh", GRADIENTS["Sigmoid"])
    model = din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(4,), activation="tanh")
    with pytest.raises(ParityError, match="does not train as TensorFlow does") as caught:
        convert(model, tmp_path / "wrong.tflite", ConvertOptions(batch_size=8, schema=SCHEMA))
    assert not caught.value.report.passed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("parted_draws", "written"), [(1, True), (2, False)])
def test_a_draw_that_parts_by_chance_is_tried_again(
    parted_draws: int, written: bool, classifier_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one draw of batches parts and two agree it was a kink; where a second parts too, nothing is written."""
    compare, calls = parity._compare, itertools.count()

    def parting(*sides: Any) -> RuntimeParity:
        true = compare(*sides)
        parts = next(calls) < parted_draws * len(installed_runtimes())
        return replace(true, weight_errors={"score_bias": 0.5}) if parts else true

    monkeypatch.setattr(parity, "_compare", parting)
    options = ConvertOptions(batch_size=8)
    if written:
        assert convert(classifier_model, tmp_path / "g.tflite", options).parity.draws == 3
    else:
        with pytest.raises(ParityError, match=r"score_bias differs by 0\.5") as caught:
            convert(classifier_model, tmp_path / "g.tflite", options)
        there = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes, as a process pool moves them
        assert (str(there), there.report) == (str(caught.value), caught.value.report)


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    """A model without a logit is refused, and the previous file stays."""
    out = tmp_path / "model.tflite"
    out.write_bytes(b"previous")
    x = keras.Input((3,), name="x")
    model = keras.Model({"x": x}, {"score": keras.layers.Dense(1)(x)})
    with pytest.raises(ConversionError, match="logit"):
        convert(model, out)
    assert out.read_bytes() == b"previous"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable": "no_such_layer"}, "chooses no weight"),
        ({"trainable": "("}, "regular expression"),
        ({"optimizer": "rmsprop"}, "not one of"),
        ({"batch_size": 0}, "at least 1"),
        ({"parity_steps": 10}, "at least 50"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, din_model: Any, tmp_path: Path) -> None:
    """Each wrong choice is named before any work is done."""
    with pytest.raises(ConversionError, match=message):
        convert(din_model, tmp_path / "model.tflite", ConvertOptions(**options))
