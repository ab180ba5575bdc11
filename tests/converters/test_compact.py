"""Files without what no runtime reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from converters.compact import compact
from converters.convert import Conversion
from converters.inspect import inspect_file
from converters.runtimes import Runtime, installed_runtimes

SHARED = np.arange(12, dtype=np.float32).reshape(3, 4)


class Doubled(tf.Module):  # type: ignore[misc]
    """The same constant in two signatures."""

    def __init__(self) -> None:
        super().__init__()
        spec = tf.TensorSpec((2, 3), tf.float32, name="x")
        self.once = tf.function(lambda x: {"y": tf.matmul(x, SHARED)}, autograph=False).get_concrete_function(spec)
        self.twice = tf.function(lambda x: {"y": 2 * tf.matmul(x, SHARED)}, autograph=False).get_concrete_function(spec)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file as TensorFlow Lite's converter writes it."""
    folder, module = str(tmp_path_factory.mktemp("doubled")), Doubled()
    signatures = {"once": module.once, "twice": module.twice}
    tf.saved_model.save(module, folder, signatures=signatures)
    return bytes(tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures)).convert())


def _constant_places(content: bytes) -> list[tuple[int, bytes]]:
    """First byte and content of every constant."""
    model, places = schema.Model.GetRootAs(content, 0), []
    for i in range(model.BuffersLength()):
        data = model.Buffers(i).DataAsNumpy()
        if not isinstance(data, int):
            places.append((data.__array_interface__["data"][0] - _address(content), data.tobytes()))
    return places


def _address(content: bytes) -> int:
    return int(np.frombuffer(content, np.uint8).__array_interface__["data"][0])


def test_a_compact_file_has_no_more_than_it_needs(raw: bytes) -> None:
    """It is smaller; no tensor has a name; each constant is there once, at a multiple of 16 bytes."""
    content = compact(raw)
    assert len(content) < len(raw)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    assert {tensor.name for graph in model.subgraphs for tensor in graph.tensors} == {None}
    places = _constant_places(content)
    assert len({data for _, data in places}) == len(places)
    assert {start % 16 for start, _ in places} == {0}


@pytest.mark.parametrize("runtime", installed_runtimes(), ids=lambda runtime: str(runtime.name))
def test_a_compact_file_says_the_same(runtime: Runtime, raw: bytes, tmp_path: Path) -> None:
    """Both signatures give exactly what they gave before."""
    answers: list[dict[str, Any]] = []
    for name, content in (("raw", raw), ("compact", compact(raw))):
        (tmp_path / name).write_bytes(content)
        interpreter = runtime.open(tmp_path / name)
        x = np.ones((2, 3), np.float32)
        answers.append({s: interpreter.get_signature_runner(s)(x=x)["y"] for s in interpreter.get_signature_list()})
    assert set(answers[0]) == {"once", "twice"}
    assert all(np.array_equal(answers[0][name], answers[1][name]) for name in answers[0])


def test_compacting_twice_changes_nothing(raw: bytes) -> None:
    """The second time there is nothing left to leave out."""
    assert compact(compact(raw)) == compact(raw)


def test_the_classifier_is_small(classifier_file: Conversion) -> None:
    """What travels to every device in every round: a few bytes for each operation and tensor beside the weights."""
    info = inspect_file(classifier_file.path)
    operations = sum(sum(signature.ops.values()) for signature in info.signatures)
    assert info.size_bytes - info.constant_bytes < 128 * operations


def test_what_has_fixed_sizes_comes_first(din_file: Conversion) -> None:
    """tflite-runtime takes XNNPACK for the subgraphs before the first of any size; `train` is the interpreter's own."""
    model = schema.ModelT.InitFromPackedBuf(din_file.path.read_bytes(), 0)
    places = {definition.signatureKey.decode(): definition.subgraphIndex for definition in model.signatureDefs}
    assert sorted(places.values())[: len(places) // 2] == list(range(len(places) // 2))
    assert max(places[name] for name in ("train", "get_weights", "set_weights")) < places["infer"]
    assert places["train"] == 0
