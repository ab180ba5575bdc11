"""What a comparison ran on: numbers from another machine, or a busy one, are other numbers."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hardware.board import identify

_DISTRIBUTIONS = ("ai-edge-litert", "tflite-runtime", "torch", "keras", "tensorflow", "tensorflow-cpu", "numpy")


def describe() -> dict[str, Any]:
    """Plain values: board, processors this process may use, load and versions."""
    board = identify()
    return {
        "model": board.model,
        "machine": board.machine,
        "cpu_count": board.cpu_count,
        "cpus_used": sorted(os.sched_getaffinity(0)),
        "load_1min": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: found for name in _DISTRIBUTIONS if (found := _version(name)) is not None},
    }


def sentence(machine: dict[str, Any]) -> str:
    """The same for a person."""
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    cpus = f"processors {machine['cpus_used']} of {machine['cpu_count']}, load {machine['load_1min']:.1f}"
    return f"{machine['model']} ({machine['machine']}), {cpus}; Python {machine['python']}, {versions}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
