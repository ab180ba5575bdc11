"""`coda convert`: what it writes, and what it says of models that it cannot convert."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from coda.cli import main
from converters.inspect import inspect_file
from tests.coda.running import coda

# Keras' own, from saving a model.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

Tensor = Any
Run = Callable[..., tuple[Any, str]]


class Twice(layers.Layer):  # type: ignore[misc]
    """A layer of a user's own; nothing registers it with Keras."""

    def call(self, x: Tensor) -> Tensor:
        """Twice the input."""
        return 2 * x


def model(output: Callable[[Tensor], Any]) -> Any:
    """A model over three numbers."""
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, output(x))


def small_model() -> Any:
    """What ``tests.coda.test_convert:small_model`` names."""
    return model(lambda x: {"logit": layers.Dense(1, name="score")(Twice()(x))})


def embedding_model() -> Any:
    """Ids looked up in a table of 3000 rows, alone and as a history."""
    item, seen = (keras.Input(shape, dtype="int32", name=name) for name, shape in (("item", ()), ("seen", (4,))))
    table = layers.Embedding(3000, 4, name="items")
    joined = layers.Concatenate()([table(item), layers.GlobalAveragePooling1D()(table(seen))])
    return keras.Model({"item": item, "seen": seen}, layers.Dense(1, activation="sigmoid", name="score")(joined))


MODELS: dict[str, Callable[[], Any]] = {
    "classes": lambda: model(layers.Dense(5, activation="softmax")),
    "score": lambda: model(lambda x: {"score": layers.Dense(1)(x)}),
    "gelu": lambda: model(lambda x: layers.Dense(1)(layers.Dense(2, activation="gelu", name="curved")(x))),
    "own": small_model,
    "lambda": lambda: model(lambda x: layers.Dense(1)(layers.Lambda(lambda h: h * 2)(x))),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, which has loaded TensorFlow already: exit code and error lines."""

    def run(*arguments: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["coda", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


def test_a_file_is_converted_with_its_report(tmp_path: Path) -> None:
    """A .keras file gives a file that trains, one JSON document, the comparison, and no word of TensorFlow's."""
    source, out, report = tmp_path / "model.keras", tmp_path / "model.tflite", tmp_path / "parity.json"
    model(layers.Dense(1, activation="sigmoid")).save(source)
    done = coda("convert", str(source), "--out", str(out), "--report", str(report), "--batch-size", "8", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    info = inspect_file(out)
    assert (found["sha256"], found["size_bytes"]) == (info.sha256, info.size_bytes)
    assert found["parity"] == json.loads(report.read_text())
    assert found["parity"]["passed"] is True
    assert {"train", "infer", "evaluate", "get_weights", "set_weights"} <= {s.name for s in info.signatures}


def test_a_saved_model_is_converted(tmp_path: Path, run: Run) -> None:
    """A folder as Keras exports it."""
    model(layers.Dense(1, activation="sigmoid")).export(tmp_path / "saved", verbose=False)
    assert run("convert", str(tmp_path / "saved"), "--out", str(tmp_path / "m.tflite"))[0] == 0
    assert "train" in {signature.name for signature in inspect_file(tmp_path / "m.tflite").signatures}


def test_a_file_may_hold_slots_of_the_largest_table(tmp_path: Path, run: Run) -> None:
    """Its rows are in a file beside it, by weight, and the file's bytes do not grow with them."""
    source, out = tmp_path / "model.keras", tmp_path / "m.tflite"
    embedding_model().save(source)
    assert run("convert", str(source), "--out", str(out), "--slots", "16")[0] == 0
    rows = dict(np.load(tmp_path / "m.rows.npz"))
    table = keras.saving.load_model(source).get_layer("items").get_weights()[0]
    assert rows.keys() == {"items_embeddings"}
    np.testing.assert_array_equal(rows["items_embeddings"], table)
    assert out.stat().st_size < table.nbytes / 2
    takes = {s.name: {tensor.name: tensor.shape for tensor in s.inputs} for s in inspect_file(out).signatures}
    assert takes["set_rows"] == {"items_embeddings": (16, 4)}


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_a_file_may_only_infer(weights: str, tmp_path: Path, run: Run) -> None:
    """It is smaller, and its report has the loss in AUC on the samples by runtime."""
    source, out, samples, report = (tmp_path / name for name in ("m.keras", "m.tflite", "samples.npz", "report.json"))
    built = embedding_model()
    built.save(source)
    ids = np.arange(400, dtype=np.int32)
    np.savez(samples, item=ids, seen=ids.reshape(100, 4).repeat(4, axis=0), label=ids % 2)
    given = ["--infer-only", weights, "--samples", str(samples), "--report", str(report)]
    assert run("convert", str(source), "--out", str(out), *given)[0] == 0
    found = json.loads(report.read_text())
    assert found["weights"] == weights
    assert 0 < found["auc"] < 1
    assert all(abs(loss) < 0.05 for loss in found["auc_loss"].values())
    assert max(found["errors"].values()) <= found["bound"]
    assert {signature.name for signature in inspect_file(out).signatures} == {"infer"}
    assert out.stat().st_size < 4 * built.count_params()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--samples", "x.npz"], 2, "only --infer-only has a use for them"),
        (["--infer-only", "int8", "--slots", "8"], 2, "leave out one of the two"),
        (["--infer-only", "int8", "--samples", "{model}"], 2, "is no .npz file of arrays"),
        (["--slots", "8"], 1, "looks no input up in an Embedding"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], code: int, said: str, tmp_path: Path, run: Run
) -> None:
    """Nothing is written."""
    source, notes = tmp_path / "model.keras", tmp_path / "notes.txt"
    model(layers.Dense(1)).save(source)
    notes.write_text("junk")
    given = [argument.format(model=notes) for argument in arguments]
    got, text = run("convert", str(source), "--out", str(tmp_path / "m.tflite"), *given)
    assert got == code
    assert said in text.strip().splitlines()[-1]
    assert not (tmp_path / "m.tflite").exists()


def test_a_function_is_converted(tmp_path: Path, run: Run) -> None:
    """A Python object may have layers that no file could hold."""
    code, _ = run("convert", f"{__name__}:small_model", "--out", str(tmp_path / "m.tflite"), "--trainable", "^score/")
    assert code == 0
    assert (tmp_path / "m.tflite").is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("classes", "it must be one logit or probability a sample"),
        ("score", "must return one tensor, or a dict with 'logit'"),
        ("gelu", "layer curved: Erfc does not exist as a builtin TFLite op; use gelu with approximate=True"),
        ("own", "its class Twice is not one of Keras' own; convert it from Python instead"),
        ("lambda", "it has a Lambda layer, whose code is not run from a file; convert it from Python instead"),
    ],
)
def test_a_model_that_cannot_be_converted_is_told_in_one_line(name: str, said: str, tmp_path: Path, run: Run) -> None:
    """It names what is wrong and what to do, exits 1 and writes nothing."""
    source, out = tmp_path / f"{name}.keras", tmp_path / "m.tflite"
    MODELS[name]().save(source)
    code, text = run("convert", str(source), "--out", str(out))
    assert code == 1
    lines = text.strip().splitlines()
    assert lines[-1].startswith("coda: ")
    assert said in lines[-1]
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.keras", b"junk", "not a .keras archive, or a damaged one"),
        ("model.tflite", b"\0\0\0\0TFL3", "not a Keras file; give a .keras file"),
        ("model.h5", b"junk", "Keras cannot load it"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(name: str, content: bytes, said: str, tmp_path: Path, run: Run) -> None:
    """A damaged archive, a converted file, another kind of file."""
    source = tmp_path / name
    source.write_bytes(content)
    code, text = run("convert", str(source), "--out", str(tmp_path / "out.tflite"))
    assert code == 1
    assert said in text.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("out", "said"), [("{tmp}", "is a folder"), ("{tmp}/../{name}/model.keras", "is the model itself")]
)
def test_a_wrong_place_is_refused_at_once(out: str, said: str, tmp_path: Path, run: Run) -> None:
    """The model is never written over."""
    source = tmp_path / "model.keras"
    source.write_bytes(b"precious")
    place = out.format(tmp=tmp_path, name=tmp_path.name)
    code, text = run("convert", str(source), "--out", place)
    assert code == 2
    assert said in text
    assert source.read_bytes() == b"precious"
