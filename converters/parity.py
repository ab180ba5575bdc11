"""The parity gate: the same weights and batches in TensorFlow and in every installed runtime.

Two files can look alike, load alike and train apart: initial weights that the conversion stripped, an operation that
rounds or orders otherwise, a gradient that is wrong. So a file is only written once it did, for at least 50 steps, what
TensorFlow does: the outputs before training, every loss and every weight.

How far they may differ is in `converters.parity_report`. Adam's and Adagrad's epsilon is larger here than usual: a
gradient that is zero but for rounding, as that of a bias before a normalisation, would otherwise move its weight as far
as a real one does, and no two implementations alike.

A network with kinks (relu, max) can part by chance: where an input to one is zero but for rounding, either slope is
right, and the two sides may take different ones. A wrong gradient fails on any batches, a coincidence on its own. So
weights or losses that differ are tried on two further draws of batches, and both must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.batches import random_batches
from converters.errors import ParityError
from converters.model_call import ModelCall
from converters.optimizers import Optimizer
from converters.parity_report import CHANGE_FLOOR, ParityReport, RuntimeParity, relative_error
from converters.reference import Reference
from converters.runtimes import Runtime, installed_runtimes
from converters.weights import WeightSelection

Array = NDArray[Any]

HYPER = {"proximal": 0.1, "epsilon": 1e-3}  # a pull large enough to show if it were wrong; see above
_FURTHER_DRAWS = 2  # of batches, where the first differs
_INFER_SAMPLES = 7  # differs from every usual batch size: the file must take any number


@dataclass(frozen=True)
class _Play:
    """What every side is given: rows for the weights with slots, training batches, and features to infer from."""

    rows: dict[str, Array]
    batches: list[dict[str, Array]]
    probe: dict[str, Array]


@dataclass(frozen=True)
class _Trace:
    """What one side did: outputs before training, the loss of each step, weights before and after."""

    outputs: dict[str, Array]
    losses: list[float]
    start: dict[str, Array]
    end: dict[str, Array]


def check_parity(
    path: Path,
    call: ModelCall,
    weights: WeightSelection,
    optimizer: Optimizer,
    *,
    batch_size: int,
    bounds: Mapping[str, int],
    steps: int = 50,
    seed: int = 1,
) -> ParityReport:
    """Train the file and the model it came from side by side.

    Args:
        path: The file.
        call: The Keras model.
        weights: Which of its weights train.
        optimizer: The rule in the file.
        batch_size: Of the file's ``train``.
        bounds: Exclusive upper bound of each integer input's ids.
        steps: How many steps to compare.
        seed: Of the random batches.

    Raises:
        ParityError: If a runtime differs from TensorFlow, fails to run the file, or none is installed.
    """
    names = (*optimizer.hyper, "proximal")
    scalars = {name: np.array({**optimizer.hyper, **HYPER}[name], np.float32) for name in names}

    def compared(seed: int) -> ParityReport:
        batches = [b | scalars for b in islice(random_batches(call.inputs, bounds, batch_size, seed), steps)]
        probe = next(random_batches(call.inputs, bounds, _INFER_SAMPLES, seed + 1))
        play = _Play(_rows(weights, seed), batches, {spec.name: probe[spec.name] for spec in call.inputs})
        reference = _trace_reference(Reference(call, weights, optimizer, play.rows), play)
        results = tuple(_compare(runtime, path, play, reference) for runtime in installed_runtimes())
        return ParityReport(steps, tuple(reference.losses), results)

    report = compared(seed)
    if report.passed:
        return report
    for draw in range(1, 1 + _FURTHER_DRAWS):
        further = compared(seed + draw) if report.parted_in_training else report
        if not further.passed:
            raise ParityError(_explain(report), report)
    return replace(further, draws=1 + _FURTHER_DRAWS)


def _rows(weights: WeightSelection, seed: int) -> dict[str, Array]:
    """Rows for every weight with slots, drawn from the catalogue."""
    rng = np.random.default_rng(seed)
    return {
        name: np.asarray(weight.variable)[rng.integers(0, weight.variable.shape[0], weight.slots)]
        for name, weight in weights.slotted.items()
    }


def _trace_reference(reference: Reference, play: _Play) -> _Trace:
    start, outputs = reference.weights(), reference.infer(play.probe)
    losses = [reference.train(batch) for batch in play.batches]
    return _Trace(outputs, losses, start, reference.weights())


def _trace_file(interpreter: Any, play: _Play) -> _Trace:
    signatures = interpreter.get_signature_list()
    if play.rows:
        interpreter.get_signature_runner("set_rows")(**play.rows)
    outputs = dict(interpreter.get_signature_runner("infer")(**play.probe))
    if "embed" in signatures:
        outputs |= interpreter.get_signature_runner("embed")(**play.probe)
    weights, train = interpreter.get_signature_runner("get_weights"), interpreter.get_signature_runner("train")
    start = weights()
    losses = [float(train(**batch)["loss"]) for batch in play.batches]
    return _Trace(outputs, losses, start, weights())


def _compare(runtime: Runtime, path: Path, play: _Play, reference: _Trace) -> RuntimeParity:
    try:
        trace = _trace_file(runtime.open(path), play)
    except (RuntimeError, ValueError) as error:
        return RuntimeParity(runtime.name, runtime.version, None, None, {}, {}, failure=str(error))
    outputs = [relative_error(trace.outputs[name], reference.outputs[name]) for name in trace.outputs]
    losses = [relative_error(np.array(a), np.array(b)) for a, b in zip(trace.losses, reference.losses, strict=True)]
    return RuntimeParity(
        runtime.name,
        runtime.version,
        output_error=max(outputs),
        loss_error=max(losses),
        weight_errors={n: relative_error(trace.end[n], value) for n, value in reference.end.items()},
        change_errors={
            n: relative_error(trace.end[n] - trace.start[n], value - reference.start[n], CHANGE_FLOOR)
            for n, value in reference.end.items()
        },
    )


def _explain(report: ParityReport) -> str:
    if not report.runtimes:
        return "no TFLite runtime is installed to prove the file with; install ai-edge-litert or tflite-runtime"
    lines = [f"{r.runtime} {r.version}: {complaint}" for r in report.runtimes for complaint in r.complaints[:3]]
    return f"the converted file does not train as TensorFlow does over {report.steps} steps: " + "; ".join(lines)
