"""What a ranking costs an app on the device: python -m benchmarks.serving.

A process that serves DIN with histories of 20 over a Unix socket, and trains when told to; this process is the app. At
rest and while training take turns, and so do the API and bare calls of the runtime in this process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.plot import save_plot
from benchmarks.training.machine import describe, sentence
from edge.client import Client
from edge.learning.runtime import load_runtime

ITEMS = 4000
HISTORY = 20
CANDIDATES = 100
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
GOALS = {"p50_ms": 1.0, "p99_ms": 5.0, "p99_training_ratio": 2.0, "peak_mb": 120.0}


class Device:
    """The process that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, word: str) -> int:
        """Say a word; its peak resident memory, bytes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def device(folder: Path) -> Iterator[Device]:
    """A running device."""
    command = [sys.executable, "-m", "benchmarks.serving.device", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        one = Device(process)
        one.tell("memory")
        while not (folder / "api.sock").exists():
            time.sleep(0.01)
        yield one
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    """Measure, print, and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="of 100 candidates, in each state (%(default)s)")
    parser.add_argument("--turns", type=int, default=8, help="between rest and training (%(default)s)")
    parser.add_argument("--json", type=Path, help="save the figures")
    parser.add_argument("--plot", type=Path, help="save cost against candidates, SVG")
    chosen = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "benchmarks.serving.prepare", name], check=True)
        with device(folder) as one, Client(str(folder / "api.sock")) as client:
            found = against_training(one, client, chosen.requests, chosen.turns)
            found["sizes"] = against_size(client, folder / "model.tflite")
    found["machine"] = machine
    _print(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    if chosen.plot:
        lines = {
            "the API": [(row["candidates"], row["api_ms"]) for row in found["sizes"]],
            "bare calls": [(row["candidates"], row["bare_ms"]) for row in found["sizes"]],
        }
        save_plot(chosen.plot, lines, f"DIN, histories of {HISTORY}, median of a request")


def against_training(one: Device, client: Client, requests: int, turns: int) -> dict[str, Any]:
    """Times of a request at rest and while the device trains, taking turns; and its peak memory."""
    items = _items(CANDIDATES)
    times: dict[str, list[float]] = {"rest": [], "train": []}
    for _ in range(50):
        client.rank(items)
    for turn in range(2 * turns):
        state = ("rest", "train")[turn % 2]
        one.tell(state)
        time.sleep(0.3)  # for the batches under way
        times[state] += [_timed(lambda: client.rank(items)) for _ in range(requests // turns)]
    found: dict[str, Any] = {state: _percentiles(values) for state, values in times.items()}
    found["p99_training_ratio"] = found["train"]["p99_ms"] / found["rest"]["p99_ms"]
    found["peak_mb"] = one.tell("rest") / 1e6
    return found


def against_size(client: Client, model: Path) -> list[dict[str, float]]:
    """Median time of a request of each size by the API, and of one call of the runtime."""
    interpreter = load_runtime().interpreter(model_path=str(model), num_threads=1)
    infer = interpreter.get_signature_runner("infer")
    rows = []
    for size in SIZES:
        items, features = _items(size), _features(size)
        repetitions = max(15, 3000 // size)
        times: dict[str, list[float]] = {"api": [], "bare": []}
        for _ in range(repetitions):
            times["api"].append(_timed(lambda items=items: client.rank(items)))  # type: ignore[misc]
            times["bare"].append(_timed(lambda features=features: infer(**features)))  # type: ignore[misc]
        api_ms, bare_ms = (1e3 * float(np.median(values)) for values in times.values())
        rows.append({"candidates": size, "api_ms": api_ms, "bare_ms": bare_ms, "ratio": api_ms / bare_ms})
    return rows


def _items(count: int) -> list[int]:
    return [1 + number % (ITEMS - 1) for number in range(count)]


def _features(count: int) -> dict[str, Any]:
    history = np.arange(1, HISTORY + 1, dtype=np.int32)
    return {
        "item": np.array(_items(count), np.int32),
        "genres": np.zeros((count, 6), np.int32),
        "liked": np.tile(history, (count, 1)),
        "disliked": np.tile(history + 100, (count, 1)),
    }


def _timed(work: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def _percentiles(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": 1e3 * float(p50), "p99_ms": 1e3 * float(p99), "requests": len(times)}


def _print(found: dict[str, Any]) -> None:
    lines = [sentence(found["machine"]), ""]
    for state, name in (("rest", "at rest"), ("train", "while training")):
        values = found[state]
        lines.append(f"{CANDIDATES} candidates {name:15} p50 {values['p50_ms']:.2f} ms   p99 {values['p99_ms']:.2f} ms")
    lines.append(f"p99 while training is {found['p99_training_ratio']:.2f} times that at rest")
    lines.append(f"peak resident memory, serving and training: {found['peak_mb']:.0f} MB")
    lines += ["", "candidates   API ms   bare ms   ratio"]
    for row in found["sizes"]:
        lines.append(f"{row['candidates']:10,} {row['api_ms']:8.2f} {row['bare_ms']:9.2f} {row['ratio']:7.2f}")
    lines.append("")
    met = {
        "p50_ms": found["rest"]["p50_ms"], "p99_ms": found["rest"]["p99_ms"],
        "p99_training_ratio": found["p99_training_ratio"], "peak_mb": found["peak_mb"],
    }  # fmt: skip
    lines += [
        "",
        *(f"goal {name} <= {GOALS[name]:g}: {'met' if met[name] <= GOALS[name] else 'missed'}" for name in met),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
