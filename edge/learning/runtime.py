"""The TFLite runtime behind one door: which of the two packages is used, and how a model file is opened with it.

ai-edge-litert is faster and 64-bit only; tflite-runtime is the one for 32-bit ARM. `CODA_RUNTIME` or an argument
chooses.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from edge.errors import ModelFileError, RuntimeMissingError
from edge.learning.model import Model

RUNTIME_VARIABLE = "CODA_RUNTIME"
RUNTIMES = {
    "ai_edge_litert": "ai-edge-litert",
    "tflite_runtime": "tflite-runtime",
}  # module: distribution, preferred first


@dataclass(frozen=True)
class Runtime:
    """A TFLite runtime that was found: its module's name, its version, and its `Interpreter` class."""

    name: str
    version: str
    interpreter: Any


def load_runtime(name: str | None = None) -> Runtime:
    """Import a TFLite runtime.

    Args:
        name: A key of `RUNTIMES`; by default what `CODA_RUNTIME` says, else the first that imports.

    Raises:
        RuntimeMissingError: If the name is unknown, or neither or not the named one can be imported.
    """
    chosen = name or os.environ.get(RUNTIME_VARIABLE) or None
    if chosen is not None and chosen not in RUNTIMES:
        raise RuntimeMissingError(f"TFLite runtime {chosen!r}: {RUNTIME_VARIABLE} is one of {', '.join(RUNTIMES)}")
    return _import_first((chosen,) if chosen else tuple(RUNTIMES))


@cache
def _import_first(names: tuple[str, ...]) -> Runtime:
    failures = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # their deprecation notices are not our user's business
                interpreter = import_module(f"{name}.interpreter").Interpreter
        except (ImportError, AttributeError) as error:  # the latter from tflite-runtime under numpy 2
            failures.append(f"{name} ({error})")
        else:
            return Runtime(name, metadata.version(RUNTIMES[name]), interpreter)
    raise RuntimeMissingError(f"no TFLite runtime: {'; '.join(failures)}. Install one: pip install 'coda-edge[edge]'")


def runtime_name(name: str | None = None) -> str:
    """The runtime's module, ``ai_edge_litert`` or ``tflite_runtime``."""
    return load_runtime(name).name


def runtime_version(name: str | None = None) -> str:
    """The runtime's version as its distribution states it."""
    return load_runtime(name).version


def open_model(
    path: Path | str, expect_sha256: str | None = None, threads: int = 1, *, runtime: str | None = None
) -> Model:
    """Open a converted model; the runtime maps the file, so its constants are not copied.

    Args:
        path: The .tflite file.
        expect_sha256: Its digest in hexadecimal; None opens it unchecked.
        threads: Threads of the kernels.
        runtime: A key of `RUNTIMES`; see `load_runtime`.

    Raises:
        ModelFileError: If the file is absent, has another digest, or is not a model that trains.
        RuntimeMissingError: If there is no runtime.
    """
    path = Path(path)
    digest = file_sha256(path)
    if expect_sha256 is not None and digest != expect_sha256:
        raise ModelFileError(
            f"model file {path}: its SHA-256 is {digest[:12]}..., {expect_sha256[:12]}... was promised; "
            "delete it, and the next round fetches it again"
        )
    found = load_runtime(runtime)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = found.interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()  # tflite-runtime applies XNNPACK only here, and only to what has fixed sizes
    except (ValueError, RuntimeError) as error:
        raise ModelFileError(f"model file {path}: {found.name} {found.version} cannot load it: {error}") from error
    return Model(interpreter, digest, str(path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces.

    Raises:
        ModelFileError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise ModelFileError(f"model file {path}: {error.strerror}") from error
    return digest.hexdigest()
