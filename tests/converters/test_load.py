"""Models from files, folders and functions; and what is none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters.convert import ConvertOptions, convert
from converters.errors import LoadError
from converters.load import load_model
from converters.runtimes import installed_runtimes


def small_model() -> Any:
    """Embeddings, batch normalisation and a probability."""
    keras.utils.set_random_seed(3)
    ids, x = keras.Input((3,), dtype="int32", name="ids"), keras.Input((2,), name="x")
    table = keras.layers.Embedding(9, 2, name="table")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(table(ids)), x])
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4, activation="relu", name="hidden")(joined))
    return keras.Model({"ids": ids, "x": x}, keras.layers.Dense(1, activation="sigmoid", name="score")(hidden))


def not_a_model() -> str:
    """Something else."""
    return "a string"


NOT_CALLABLE = 3


def _as_file(folder: Path) -> str:
    path = folder / "model.keras"
    small_model().save(path)
    return str(path)


def _as_saved_model(folder: Path) -> str:
    small_model().export(str(folder / "saved"), verbose=False)
    return str(folder / "saved")


def _as_function(folder: Path) -> str:
    del folder
    return f"{__name__}:small_model"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("source", [_as_file, _as_saved_model, _as_function])
def test_a_model_is_converted_from_wherever_it_is(source: Any, tmp_path: Path) -> None:
    """A .keras file, a SavedModel and a Python function give files that infer what the model says."""
    model = load_model(source(tmp_path))
    conversion = convert(model, tmp_path / "model.tflite", ConvertOptions(batch_size=4))
    rng = np.random.default_rng(0)
    batch: dict[str, Any] = {
        "ids": rng.integers(0, 9, (6, 3)).astype(np.int32),
        "x": rng.standard_normal((6, 2)).astype(np.float32),
    }
    infer = installed_runtimes()[0].open(conversion.path).get_signature_runner("infer")
    probability = 1 / (1 + np.exp(-infer(**batch)["logit"]))
    np.testing.assert_allclose(probability, np.asarray(small_model()(batch))[:, 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.keras", "no such file"),
        ("absent_folder/", "no such file"),
        ("no.such.module:function", "No module named"),
        (f"{__name__}:absent", "no attribute"),
        (f"{__name__}:NOT_CALLABLE", "not a function"),
        (f"{__name__}:not_a_model", "returned str, not a keras.Model"),
        (f"{__name__}:_as_file", "cannot be called without arguments"),
    ],
)
def test_what_is_not_there_is_named(source: str, message: str) -> None:
    """The error says what was looked for."""
    with pytest.raises(LoadError, match=message):
        load_model(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("model.keras", b"junk", "not a .keras archive, or a damaged one"), ("model.txt", b"junk", "not a Keras file")],
)
def test_a_wrong_file_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A damaged archive and a file of another kind."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=message):
        load_model(str(tmp_path / name))


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    """It lacks saved_model.pb."""
    with pytest.raises(LoadError, match="not a SavedModel"):
        load_model(str(tmp_path))
