"""Which models are taken, which are refused and why; what trains, and under which name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters.convert import ConvertOptions, convert
from converters.errors import ConversionError
from converters.parity_report import relative_error
from converters.runtimes import installed_runtimes
from converters.weights import select_weights


def _over(output: Callable[[Any], Any], **inputs: Any) -> Any:
    x = keras.Input(inputs.pop("shape", (3,)), name=inputs.pop("name", "x"), **inputs)
    return keras.Model({x.name: x}, output(x))


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model without symbolic inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.score = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        """A logit."""
        return self.score(x)


def _called() -> Any:
    model = Subclassed()
    model(np.zeros((1, 3), np.float32))
    return model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: "a string", "needs a keras.Model, got str"),
    "subclassed": (_called, "has no symbolic inputs; wrap it"),
    "two outputs": (lambda: _over(lambda x: [keras.layers.Dense(1)(x)] * 2), "must return one tensor"),
    "no logit": (lambda: _over(lambda x: {"score": keras.layers.Dense(1)(x)}), "or a dict with 'logit'"),
    "many classes": (lambda: _over(keras.layers.Dense(5, activation="softmax")), "one logit or probability a sample"),
    "integers": (lambda: _over(lambda x: keras.ops.cast(keras.layers.Dense(1)(x), "int32")), "its output is int32"),
    "open axis": (
        lambda: _over(keras.layers.GRU(1), shape=(None, 2)),
        "all axes but n must be fixed",
    ),
    "taken name": (lambda: _over(keras.layers.Dense(1), name="label"), "needs a name that is free"),
    "no identifier": (lambda: _over(keras.layers.Dense(1), name="my-x"), "an identifier"),
    "constraint": (
        lambda: _over(keras.layers.Dense(1, kernel_constraint="non_neg")),
        "has a constraint",
    ),
    "half precision": (lambda: _over(keras.layers.Dense(1, dtype="float16")), "must be float32"),
    "nothing trains": (lambda: _over(keras.layers.Lambda(lambda x: x[:, :1])), "chooses no weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """Each with its reason, and nothing is written."""
    build, message = REFUSED[case]
    with pytest.raises(ConversionError, match=message):
        convert(build(), tmp_path / "model.tflite", ConvertOptions(batch_size=2))
    assert list(tmp_path.iterdir()) == []


def _normalised() -> Any:
    x = keras.Input((3,), name="x")
    hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(2, name="first")(x))
    return keras.Model({"x": x}, {"logit": keras.layers.Dense(1, name="score")(hidden)}, name="tower")


def test_names_are_the_paths_of_keras_without_the_models_own() -> None:
    """Readable identifiers, the same in every process."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="score")], name="tower")
    assert list(select_weights(model, "all").portable) == ["score_kernel", "score_bias"]
    names = select_weights(_normalised(), "all")
    assert list(names.trained) == [
        "first_kernel",
        "first_bias",
        "norm_gamma",
        "norm_beta",
        "score_kernel",
        "score_bias",
    ]
    assert list(names.state) == ["norm_moving_mean", "norm_moving_variance"]


def test_head_and_embeddings_part_the_weights() -> None:
    """Together they are all weights, and they share none."""
    ids = keras.Input((2,), dtype="int32", name="ids")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(4, 2, name="table")(ids))
    model = keras.Model(ids, keras.layers.Dense(1, name="score")(hidden))
    parts = {name: set(select_weights(model, name).trained) for name in ("all", "head", "embeddings")}
    assert parts["embeddings"] == {"table_embeddings"}
    assert parts["head"] == parts["all"] - parts["embeddings"]


def test_statistics_of_a_frozen_layer_rest(tmp_path: Path) -> None:
    """Nothing of the normalisation trains, so its statistics neither move nor travel, and parity holds."""
    conversion = convert(_normalised(), tmp_path / "model.tflite", ConvertOptions(batch_size=4, trainable="^score/"))
    signatures = installed_runtimes()[0].open(conversion.path).get_signature_list()
    assert set(signatures["get_weights"]["outputs"]) == {"score_kernel", "score_bias"}


@pytest.mark.parametrize("optimizer", ["momentum", "adagrad", "adam"])
def test_resetting_the_optimiser_repeats_the_run(optimizer: str, tmp_path: Path) -> None:
    """After set_weights and reset_optimizer the same batches give the same losses again."""
    out = tmp_path / "model.tflite"
    interpreter = installed_runtimes()[0].open(
        convert(_normalised(), out, ConvertOptions(batch_size=4, optimizer=optimizer)).path
    )
    train, get = interpreter.get_signature_runner("train"), interpreter.get_signature_runner("get_weights")
    start = {name: value.copy() for name, value in get().items()}
    rng = np.random.default_rng(0)
    batch: dict[str, Any] = {"x": rng.standard_normal((4, 3)), "label": np.array([0, 1, 1, 0]), "weight": np.ones(4)}
    scalars = {"learning_rate": 0.1, "momentum": 0.9, "epsilon": 1e-7, "beta_1": 0.9, "beta_2": 0.999, "proximal": 0.0}
    inputs = {name: np.float32((batch | scalars)[name]) for name in interpreter.get_signature_list()["train"]["inputs"]}

    def run() -> list[float]:
        return [float(train(**inputs)["loss"]) for _ in range(5)]

    first = run()
    interpreter.get_signature_runner("set_weights")(**start)
    assert run() != first
    interpreter.get_signature_runner("set_weights")(**start)
    interpreter.get_signature_runner("reset_optimizer")()
    assert run() == first


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    """So a file's hash names its content."""
    model, options = _normalised(), ConvertOptions(batch_size=4)
    hashes = {convert(model, tmp_path / f"{i}.tflite", options).sha256 for i in range(2)}
    assert len(hashes) == 1


def test_a_conversion_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    """Weights, and the way its layers compute."""
    model = _normalised()
    batch = {"x": np.ones((2, 3), np.float32)}
    before, logit = model.get_weights(), np.asarray(model(batch)["logit"])
    convert(model, tmp_path / "model.tflite", ConvertOptions(batch_size=4))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert np.array_equal(np.asarray(model(batch)["logit"]), logit)
    assert all("call" not in vars(layer) for layer in model.layers)


@pytest.mark.parametrize(
    ("value", "reference", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 2.2], [0.0, 2.0], 0.1),
        ([0.0, 0.002], [0.0, 0.001], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1e-9, 0.0], [0.0, 0.0], 1e-7),
        ([float("nan"), 0.0], [0.0, 0.0], float("inf")),
        ([1.0], [1.0, 2.0], float("inf")),
    ],
)
def test_errors_are_relative_to_the_largest_magnitude(value: list[float], reference: list[float], error: float) -> None:
    """Entries near zero do not decide; what is not a number, or of another shape, is infinitely wrong."""
    assert relative_error(np.array(value), np.array(reference)) == pytest.approx(error)
