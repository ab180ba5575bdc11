"""Reading a file without running it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter

from converters.convert import Conversion
from converters.errors import LoadError
from converters.inspect import inspect_file


def test_signatures_are_those_of_the_runtime(din_file: Conversion) -> None:
    """Names, shapes and types as an interpreter gives them, with None for an axis of any size."""
    info = inspect_file(din_file.path)
    interpreter = Interpreter(model_path=str(din_file.path))
    assert {s.name for s in info.signatures} == set(interpreter.get_signature_list())
    for signature in info.signatures:
        details = interpreter.get_signature_runner(signature.name).get_input_details()
        expected = {n: tuple(None if s < 0 else s for s in d["shape_signature"]) for n, d in details.items()}
        assert {tensor.name: tensor.shape for tensor in signature.inputs} == expected
        assert {t.name: t.dtype for t in signature.inputs} == {n: d["dtype"].__name__ for n, d in details.items()}


def test_a_file_is_named_and_weighed(din_file: Conversion) -> None:
    """Digest and size are the conversion's; the weights are part of the size; no op is foreign; all of it is JSON."""
    info = inspect_file(din_file.path)
    assert (info.sha256, info.size_bytes, info.foreign_ops) == (din_file.sha256, din_file.size_bytes, ())
    assert 0 < info.constant_bytes < info.size_bytes
    ops = {signature.name: signature.ops for signature in info.signatures}
    assert ops["train"]["ASSIGN_VARIABLE"] == ops["get_weights"]["READ_VARIABLE"] > 0
    assert json.loads(json.dumps(info.to_dict()))["sha256"] == info.sha256


@pytest.mark.parametrize(("content", "message"), [(b"", "not a TFLite file"), (b"PK\x03\x04" * 9, "not a TFLite file")])
def test_another_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """An empty file and an archive."""
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(LoadError, match=message):
        inspect_file(tmp_path / "model.tflite")


def test_a_truncated_file_is_refused(din_file: Conversion, tmp_path: Path) -> None:
    """The mark is there, the tables are not."""
    (tmp_path / "model.tflite").write_bytes(din_file.path.read_bytes()[:200])
    with pytest.raises(LoadError, match="damaged"):
        inspect_file(tmp_path / "model.tflite")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """The error carries the path."""
    with pytest.raises(LoadError, match=r"absent\.tflite"):
        inspect_file(tmp_path / "absent.tflite")
