"""The TFLite runtimes installed on this machine: what a device would run the file with."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KNOWN = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}


@dataclass(frozen=True)
class Runtime:
    """One installed runtime."""

    name: str
    version: str
    interpreter: Callable[..., Any]

    def open(self, path: Path, threads: int = 1) -> Any:
        """An interpreter over the file.

        Raises:
            ValueError: As the runtime raises it, if the file is not one it can load.
        """
        return self.interpreter(model_path=str(path), num_threads=threads)


def installed_runtimes() -> tuple[Runtime, ...]:
    """Every runtime that imports here, by name; a file is proven in each."""
    found = []
    for name, module in sorted(_KNOWN.items()):
        try:
            interpreter = importlib.import_module(module).Interpreter
            found.append(Runtime(name, importlib.metadata.version(name), interpreter))
        except ImportError:
            continue
    return tuple(found)
