"""Race our Trainers, PyTorch and Keras over the zoo and print one table: python -m benchmarks.training.

With --details, the bare runtimes race too, and each model has a table of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.training.contenders import CONTENDERS, RUNTIMES
from benchmarks.training.figures import RIVALS
from benchmarks.training.job import Job
from benchmarks.training.machine import describe, sentence
from benchmarks.training.models import MODELS
from benchmarks.training.race import overhead, race
from benchmarks.training.summary import summarise
from benchmarks.training.table import Comparison, show

_TABLE_WIDTH = 140  # so that no cell is cut where the output is a file


def main() -> None:
    """Print the table of all models; write JSON if asked to."""
    asked = _arguments()
    console = Console(width=_TABLE_WIDTH, highlight=False)
    machine = describe()
    console.print(sentence(machine) + "\n", soft_wrap=True)
    comparisons = [_compare(model, trainable, asked) for model in asked.models for trainable in asked.trainable]
    if asked.details:
        for comparison in comparisons:
            show(comparison, console)
    summarise(comparisons, console)
    if asked.json is not None:
        values = {"machine": machine, "comparisons": [comparison.to_dict() for comparison in comparisons]}
        asked.json.write_text(json.dumps(values, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contender (%(default)s)")
    parser.add_argument("--passes", type=int, default=10, help="timed passes of each turn (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--trainable", nargs="+", choices=["head", "all"], default=["head", "all"])
    parser.add_argument("--details", action="store_true", help="bare calls too, and one table a model")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args()


def _compare(model: str, trainable: str, asked: argparse.Namespace) -> Comparison:
    from benchmarks.training.prepare import prepare

    installed = [key for key, contender in CONTENDERS.items() if contender.is_installed()]
    keys = [key for key in installed if asked.details or key in RIVALS or key.startswith("trainer-")]
    with tempfile.TemporaryDirectory(prefix="coda-benchmark-") as folder:
        job = prepare(Job(Path(folder), trainable, model=model))
        measured = race(job, keys, asked.repetitions, asked.passes, _tell)
        overheads = {}
        for runtime in RUNTIMES:
            if f"trainer-{runtime}" in keys:
                _tell(f"{model}, {trainable}: Trainer and bare calls in one process, {runtime}")
                names = f"trainer-{runtime}", f"bare-{runtime}"
                overheads[runtime] = overhead(job, *names, asked.repetitions, asked.passes)
    return Comparison(job, measured, overheads)


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
