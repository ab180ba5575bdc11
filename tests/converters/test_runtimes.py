"""Files run in a process where no TensorFlow is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.convert import Conversion
from converters.runtime_worker import send
from converters.runtimes import Runtime, _process_of, installed_runtimes

both_runtimes = pytest.mark.parametrize("runtime", installed_runtimes(), ids=lambda runtime: str(runtime.name))


@both_runtimes
def test_no_tensorflow_is_loaded_beside_a_runtime(runtime: Runtime, din_file: Conversion) -> None:
    """In a process with TensorFlow, tflite-runtime would compute with TensorFlow's kernels and prove nothing."""
    runtime.open(din_file.path)
    maps = Path(f"/proc/{_process_of(runtime.module).pid}/maps").read_text()
    assert "libtensorflow" not in maps
    assert runtime.module.partition(".")[0] in maps


@both_runtimes
def test_a_file_that_cannot_be_loaded_is_an_error(runtime: Runtime, tmp_path: Path) -> None:
    """What the runtime says of it, or that it crashed; the next file is run all the same."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises((ValueError, RuntimeError)):
        runtime.open(path)


@both_runtimes
def test_a_crash_of_the_runtime_ends_neither_us_nor_the_next_file(runtime: Runtime, din_file: Conversion) -> None:
    """A runtime's process that died is told as such, and a new one opens the next file."""
    file = runtime.open(din_file.path)
    _process_of(runtime.module).close()
    with pytest.raises(RuntimeError, match="crashed"):
        file.get_signature_runner("get_weights")()
    assert runtime.open(din_file.path).get_signature_runner("get_weights")()


@both_runtimes
def test_arrays_arrive_as_they_were_sent(runtime: Runtime, din_file: Conversion) -> None:
    """Weights set are weights got, bit for bit."""
    file = runtime.open(din_file.path)
    rng = np.random.default_rng(3)
    weights = file.get_signature_runner("get_weights")()
    changed = {name: rng.standard_normal(value.shape).astype(np.float32) for name, value in weights.items()}
    file.get_signature_runner("set_weights")(**changed)
    got = file.get_signature_runner("get_weights")()
    assert all(np.array_equal(got[name], changed[name]) for name in weights)


@both_runtimes
def test_a_file_may_be_dropped_while_another_is_asked(
    runtime: Runtime, din_file: Conversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of garbage in the middle of a question waits for no answer of its own."""
    first, second = runtime.open(din_file.path), runtime.open(din_file.path)
    dropped = [first]
    del first

    def send_and_drop(*arguments: Any) -> None:
        dropped.clear()
        send(*arguments)

    monkeypatch.setattr("converters.runtimes.send", send_and_drop)
    assert second.get_signature_runner("get_weights")()
    assert second.get_signature_runner("get_weights")()


@both_runtimes
def test_a_relative_path_is_ours(
    runtime: Runtime, din_file: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts at our working folder, wherever the runtime's process is."""
    (tmp_path / "model.tflite").write_bytes(din_file.path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert "train" in runtime.open(Path("model.tflite")).get_signature_list()
