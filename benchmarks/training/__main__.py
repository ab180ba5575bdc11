"""Race all contenders and print the table: python -m benchmarks.training."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.training.contenders import CONTENDERS, RUNTIMES
from benchmarks.training.job import Job
from benchmarks.training.machine import describe, sentence
from benchmarks.training.race import overhead, race
from benchmarks.training.table import Comparison, show

_TABLE_WIDTH = 140  # so that no cell is cut where the output is a file


def main() -> None:
    """Print one table a trainable set; write JSON if asked to."""
    asked = _arguments()
    console = Console(width=_TABLE_WIDTH, highlight=False)
    machine = describe()
    console.print(sentence(machine) + "\n", soft_wrap=True)
    comparisons = []
    for trainable in asked.trainable:
        comparison = _compare(trainable, asked)
        show(comparison, console)
        comparisons.append(comparison.to_dict())
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": machine, "comparisons": comparisons}, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contender (%(default)s)")
    parser.add_argument("--passes", type=int, default=20, help="timed passes of each turn (%(default)s)")
    parser.add_argument("--trainable", nargs="+", choices=["head", "all"], default=["head", "all"])
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args()


def _compare(trainable: str, asked: argparse.Namespace) -> Comparison:
    from benchmarks.training.prepare import prepare

    keys = [key for key, contender in CONTENDERS.items() if contender.is_installed()]
    with tempfile.TemporaryDirectory(prefix="coda-benchmark-") as folder:
        job = prepare(Job(Path(folder), trainable))
        measured = race(job, keys, asked.repetitions, asked.passes, _tell)
        overheads = {}
        for runtime in RUNTIMES:
            if f"trainer-{runtime}" in keys:
                _tell(f"{trainable}: Trainer and bare calls in one process, {runtime}")
                names = f"trainer-{runtime}", f"bare-{runtime}"
                overheads[runtime] = overhead(job, *names, asked.repetitions, asked.passes)
    return Comparison(job, measured, overheads)


def _tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
