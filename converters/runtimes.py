"""The TFLite runtimes installed on this machine: what a device would run the file with, each in a clean process."""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import itertools
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from converters.runtime_worker import receive, send

_KNOWN = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
_PROGRAM = "import sys; from converters.runtime_worker import serve; serve(sys.argv[1])"
_ROOT = Path(__file__).resolve().parents[1]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Runtime:
    """One installed runtime."""

    name: str
    version: str
    module: str

    def open(self, path: Path, threads: int = 1) -> OpenFile:
        """Open a file in this runtime's process.

        Raises:
            ValueError: If the runtime cannot load it; the text is the runtime's.
            RuntimeError: If the runtime crashed over it.
        """
        return OpenFile(_process_of(self.module), path, threads)


class OpenFile:
    """A file that a runtime has open; as much of its interpreter as a comparison needs."""

    def __init__(self, process: _Process, path: Path, threads: int) -> None:
        self._process = process
        self._handle = next(process.handles)
        request = {"do": "open", "handle": self._handle, "path": str(path.resolve()), "threads": threads}
        self._signatures: dict[str, dict[str, list[str]]] = process.ask(request)
        weakref.finalize(self, process.forget, self._handle)

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of inputs and outputs by signature."""
        return self._signatures

    def get_signature_runner(self, name: str) -> Callable[..., Arrays]:
        """A function from inputs to outputs, by name.

        Raises:
            ValueError: If the file has no such signature.
        """
        if name not in self._signatures:
            raise ValueError(f"no signature {name!r}, only {sorted(self._signatures)}")

        def run(**inputs: Any) -> Arrays:
            request = {"do": "run", "handle": self._handle, "signature": name, "inputs": inputs}
            outputs: Arrays = self._process.ask(request)
            return outputs

        return run


class _Process:
    """A runtime's process, asked one thing at a time."""

    def __init__(self, module: str) -> None:
        self.handles = itertools.count()
        self._forgotten: deque[int] = deque()
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT
        )
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with self._lock:
            forgotten = [self._forgotten.popleft() for _ in range(len(self._forgotten))]
            try:
                send(self._child.stdin, {**request, "forget": forgotten})
                answer = receive(self._child.stdout)
            except (BrokenPipeError, ValueError):  # the latter where an earlier crash closed the pipe
                answer = None
        if answer is None:
            self.close()
            raise RuntimeError(f"the runtime crashed (exit code {self._child.returncode})")
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    def forget(self, handle: int) -> None:
        """Close a file with the next question: a garbage collection in the middle of one may call this."""
        self._forgotten.append(handle)

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()
        atexit.unregister(self.close)


_processes: dict[str, _Process] = {}


def _process_of(module: str) -> _Process:
    process = _processes.get(module)
    if process is None or not process.running:
        process = _processes[module] = _Process(module)
    return process


@cache
def installed_runtimes() -> tuple[Runtime, ...]:
    """Every runtime that is installed here, by name; a file is proven in each."""
    found = []
    for name, module in sorted(_KNOWN.items()):
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(Runtime(name, version, module))
    return tuple(found)
