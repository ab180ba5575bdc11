"""Files that only infer: smaller, and if wanted with weights in fewer bits, at a loss that is measured.

Every matrix and table of 1024 numbers or more is stored as float16, which a runtime widens as it loads the file, or as
int8 with a scale (dynamic range): then what is multiplied with it is rounded, too, while it runs. Biases and small
weights stay as they are.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from converters.batches import id_bounds, random_batches
from converters.errors import AccuracyError, ConversionError
from converters.model_call import LOGIT, VECTORS, ModelCall
from converters.parity_report import relative_error
from converters.runtimes import Runtime, installed_runtimes
from converters.tflite_file import WEIGHTS, to_constant_tflite
from converters.unsupported import explained
from protocol.schema import FeatureSchema

Array = NDArray[Any]
Tensor = Any

# Of max |file - model| / max |model|, over each output; about ten times what the zoo's models show.
BOUNDS: Mapping[str, float] = {"float32": 1e-4, "float16": 5e-3, "int8": 1e-1}
_PROBE_SAMPLES = 256


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where it lies.
        sha256: Hexadecimal digest of its bytes.
        size_bytes: Its length.
        weights: How it stores them, one of ``float32``, ``float16`` and ``int8``.
        errors: Largest relative error of its outputs against the model, by runtime.
        auc: The model's own AUC on the samples given, or None without labels.
        auc_loss: That AUC less the file's, by runtime; below 0 if the file happens to rank better; None without labels.
    """

    path: Path
    sha256: str
    size_bytes: int
    weights: str
    errors: Mapping[str, float]
    auc: float | None = None
    auc_loss: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path), "bound": BOUNDS[self.weights]}


def export_for_inference(
    model: Any,
    out: Path,
    weights: str = "float32",
    *,
    samples: Mapping[str, Array] | None = None,
    labels: Array | None = None,
    schema: FeatureSchema | None = None,
) -> Exported:
    """Write a file with the signatures ``infer`` and, where the model gives both vectors, ``embed``; nothing trains.

    Args:
        model: As `converters.convert.convert` takes it.
        out: The file to write; replaced in one step, or not at all.
        weights: ``float32``, ``float16`` or ``int8``.
        samples: Features by name, [n, ...], to compare the file and the model on; random ones if None.
        labels: Of the samples, 0 or 1, [n]; with them the loss in AUC is measured.
        schema: Bounds the random samples' ids, as in `converters.options.ConvertOptions`.

    Raises:
        ConversionError: If the model, the samples or the labels do not allow it.
        AccuracyError: If a runtime's outputs differ from the model's by more than `BOUNDS`, or none is installed.
    """
    if weights not in WEIGHTS:
        raise ConversionError(f"weights {weights!r} is not one of {', '.join(WEIGHTS)}")
    call = ModelCall(model)
    probe = _random_samples(model, call, schema) if samples is None else _checked_samples(call, samples)
    if labels is not None:
        labels = _checked_labels(labels, samples, len(next(iter(probe.values()))))
    module = _InferenceModule(call, model.variables)
    content = explained(model, module, lambda signatures: to_constant_tflite(module, signatures, weights))
    expected = _model_outputs(call, probe)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".coda-export-") as folder:
        candidate = Path(folder) / out.name
        candidate.write_bytes(content)
        answers = {runtime.name: _file_outputs(runtime, candidate, probe) for runtime in installed_runtimes()}
        errors = {name: _worst(outputs, expected) for name, outputs in answers.items()}
        _require_accuracy(errors, weights)
        candidate.replace(out)
    digest = hashlib.sha256(content).hexdigest()
    if labels is None:
        return Exported(out, digest, len(content), weights, errors)
    auc = _auc(expected[LOGIT], labels)
    losses = {name: auc - _auc(outputs[LOGIT], labels) for name, outputs in answers.items()}
    return Exported(out, digest, len(content), weights, errors, auc, losses)


class _InferenceModule(tf.Module):  # type: ignore[misc]
    """The model over plain variables, which become constants of the file."""

    def __init__(self, call: ModelCall, variables: list[Any]) -> None:
        super().__init__()
        self._call = call
        self._variables = variables
        self.values = [tf.Variable(np.asarray(variable)) for variable in variables]

    def signatures(self) -> dict[str, Any]:
        signatures = {"infer": self._concrete((LOGIT,))}
        if set(VECTORS) <= set(self._call.output_names):
            signatures["embed"] = self._concrete(VECTORS)
        return signatures

    def _concrete(self, names: tuple[str, ...]) -> Any:
        def forward(**batch: Tensor) -> dict[str, Tensor]:
            values = [value.read_value() for value in self.values]
            outputs = self._call(zip(self._variables, values, strict=True), batch).outputs
            return {name: outputs[name] for name in names}

        specs = {spec.name: spec.tensor_spec(None) for spec in self._call.inputs}
        return tf.function(forward, autograph=False).get_concrete_function(**specs)


def _random_samples(model: Any, call: ModelCall, schema: FeatureSchema | None) -> dict[str, Array]:
    batch = next(random_batches(call.inputs, id_bounds(model, call, schema), _PROBE_SAMPLES, seed=1))
    return {spec.name: batch[spec.name] for spec in call.inputs}


def _checked_samples(call: ModelCall, samples: Mapping[str, Array]) -> dict[str, Array]:
    missing = [spec.name for spec in call.inputs if spec.name not in samples]
    if missing:
        raise ConversionError(f"samples lack the model's inputs {', '.join(missing)}")
    probe = {spec.name: np.asarray(samples[spec.name], spec.dtype) for spec in call.inputs}
    for spec in call.inputs:
        n = len(probe[call.inputs[0].name])
        if probe[spec.name].shape != (n, *spec.shape):
            raise ConversionError(f"samples: {spec.name} is {probe[spec.name].shape}, not {(n, *spec.shape)}")
    return probe


def _checked_labels(labels: Array, samples: Mapping[str, Array] | None, n: int) -> Array:
    labels = np.asarray(labels)
    if samples is None:
        raise ConversionError("labels say nothing about random samples; give the samples that they belong to")
    if labels.shape != (n,) or set(np.unique(labels)) != {0, 1}:
        raise ConversionError(f"labels must be {n} zeros and ones, some of each: without both there is no AUC")
    return labels


def _model_outputs(call: ModelCall, probe: dict[str, Array]) -> dict[str, Array]:
    def forward(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return call([], batch, builtin=False).outputs

    inputs = {name: tf.constant(value) for name, value in probe.items()}
    return {name: np.asarray(value) for name, value in tf.function(forward, autograph=False)(inputs).items()}


def _file_outputs(runtime: Runtime, path: Path, probe: dict[str, Array]) -> dict[str, Array]:
    try:
        interpreter = runtime.open(path)
        runners = [interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()]
        return {name: value for runner in runners for name, value in runner(**probe).items()}
    except (RuntimeError, ValueError) as error:
        message = f"{runtime.name} {runtime.version} cannot run the file: {error}"
        raise AccuracyError(message, {runtime.name: float("inf")}) from error


def _worst(outputs: dict[str, Array], expected: dict[str, Array]) -> float:
    return max(relative_error(value, expected[name]) for name, value in outputs.items())


def _require_accuracy(errors: Mapping[str, float], weights: str) -> None:
    if not errors:
        raise AccuracyError("no TFLite runtime is installed to prove the file with; install ai-edge-litert", errors)
    wrong = [f"{name} by {error:.2g}" for name, error in errors.items() if not error <= BOUNDS[weights]]
    if wrong:
        message = f"outputs with {weights} weights differ from the model's in {', '.join(wrong)}"
        raise AccuracyError(f"{message}; the bound is {BOUNDS[weights]:g}", errors)


def _auc(logit: Array, label: Array) -> float:
    """Probability that a positive ranks above a negative, ties counting half."""
    _, place, counts = np.unique(logit, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(np.sum(label))
    above = np.sum(ranks[label == 1]) - positives * (positives + 1) / 2
    return float(above / (positives * (len(label) - positives)))
