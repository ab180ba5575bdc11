"""The zoo's models in small sizes, and which of them are proven with which optimiser and trainable set.

The tests prove so many combinations that every two choices meet. ``python -m tests.converters.zoo_cases`` proves all of
them, in a few minutes, and prints the worst errors by optimiser, which docs/converters.md shows.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import keras

from converters.convert import ConvertOptions, convert
from converters.optimizers import OPTIMIZERS
from converters.options import TRAINABLE_SETS
from converters.parity_report import ParityReport
from converters.zoo.classifier import sample_classifier
from converters.zoo.deepfm import deepfm
from converters.zoo.din import din
from converters.zoo.lr import lr
from converters.zoo.pnn import pnn
from converters.zoo.wide_deep import wide_deep
from protocol.schema import Feature, FeatureKind, FeatureSchema
from tests.converters.conftest import SCHEMA

Combination = tuple[str, str, str]

MIXED = FeatureSchema((*SCHEMA.features[:3], Feature("price", FeatureKind.DENSE, 2)))
SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_units": (6, 4)}
MODELS: dict[str, Callable[[], Any]] = {
    "lr": lambda: lr(MIXED),
    "wide_deep": lambda: wide_deep(MIXED, **SMALL),
    "deepfm": lambda: deepfm(MIXED, **SMALL),
    "pnn": lambda: pnn(MIXED, **SMALL),
    "din": lambda: din(SCHEMA, attention_units=(5, 4), **SMALL),
    "sample_classifier": lambda: sample_classifier(4, hidden_units=(5,)),
}
ALL: tuple[Combination, ...] = tuple(
    (model, optimizer, trainable)
    for model in MODELS
    for optimizer in OPTIMIZERS
    for trainable in TRAINABLE_SETS
    if (model, trainable) != ("sample_classifier", "embeddings")  # it has none
)


def _every_two_together() -> tuple[Combination, ...]:
    """One trainable set for each model and optimiser, another from one to the next."""
    chosen = []
    for row, model in enumerate(MODELS):
        for column, optimizer in enumerate(OPTIMIZERS):
            possible = [combination for combination in ALL if combination[:2] == (model, optimizer)]
            chosen.append(possible[(row + column) % len(possible)])
    return tuple(chosen)


CHOSEN = _every_two_together()
"""Of `ALL`, so many that every two of model, optimiser and trainable set meet."""


def prove(name: str, optimizer: str, trainable: str) -> ParityReport:
    """Convert a zoo model."""
    keras.utils.set_random_seed(1)
    schema = None if name == "sample_classifier" else SCHEMA if name == "din" else MIXED
    options = ConvertOptions(batch_size=8, optimizer=optimizer, trainable=trainable, schema=schema)
    with tempfile.TemporaryDirectory() as folder:
        return convert(MODELS[name](), Path(folder) / "zoo.tflite", options).parity


def _worst(reports: list[ParityReport]) -> str:
    """The largest errors of several files over all runtimes: loss, weights, change of weights."""
    runtimes = [runtime for report in reports for runtime in report.runtimes]
    loss = max(runtime.loss_error or 0.0 for runtime in runtimes)
    weights = max(error for runtime in runtimes for error in runtime.weight_errors.values())
    changes = max(error for runtime in runtimes for error in runtime.change_errors.values())
    return f"{loss:.0e} | {weights:.0e} | {changes:.0e}"


def main() -> None:
    """Prove every combination; a conversion that fails raises."""
    processes = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        reports = dict(zip(ALL, pool.map(prove, *zip(*ALL, strict=True)), strict=True))
    print(f"{len(reports)} files agree with TensorFlow\n\noptimiser | loss | weights | change of weights")
    for optimizer in OPTIMIZERS:
        print(f"{optimizer} | {_worst([report for key, report in reports.items() if key[1] == optimizer])}")


if __name__ == "__main__":
    main()
