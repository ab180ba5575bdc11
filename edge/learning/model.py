"""A converted model through its signatures: `train`, `infer`, `get_weights`, `set_weights`, a recommender's `embed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelFileError
from protocol.rows import TableRows
from protocol.schema import FeatureSchema

Array = NDArray[Any]
Weights = dict[str, Array]

CHUNK_SAMPLES = 128  # of one call to `infer` or `embed`: bounds the runtime's buffers, which grow with it and stay

_REQUIRED = ("train", "infer", "get_weights", "set_weights")
_TRAIN_ONLY = ("label", "weight", "learning_rate", "proximal")


class Model:
    """Signature runners of one interpreter. Not thread-safe.

    Attributes:
        sha256: Digest of the file it was opened from.
        feature_names: Inputs of `infer`.
        batch_size: B, the static batch of `train`.
        embeds: Whether it has the `embed` signature.
        before_step: Called before each step of training and each piece of inference, to let others go first.
        has_slots: Whether it holds no rows of a table, so that `set_rows` comes before anything else.

    Raises:
        ModelFileError: If a signature, an input or a dtype is not as the contract says.
    """

    def __init__(self, interpreter: Any, sha256: str, where: str) -> None:
        self.sha256 = sha256
        self.before_step: Callable[[], None] | None = None
        self._where = where
        signatures = interpreter.get_signature_list()
        missing = [name for name in _REQUIRED if name not in signatures]
        if missing:
            raise self._unfit(f"has no signature {', '.join(missing)}, only {sorted(signatures) or 'none'}")
        self.feature_names = tuple(sorted(signatures["infer"]["inputs"]))
        self.embeds = "embed" in signatures
        self._check_names(signatures)
        self._interpreter = interpreter
        self._train = interpreter.get_signature_runner("train")
        self._infer = interpreter.get_signature_runner("infer")
        self._embed = interpreter.get_signature_runner("embed") if self.embeds else None
        self._get_weights = interpreter.get_signature_runner("get_weights")
        self._set_weights = interpreter.get_signature_runner("set_weights")
        self._reset = interpreter.get_signature_runner("reset_optimizer") if "reset_optimizer" in signatures else None
        self.has_slots = "set_rows" in signatures
        self._set_rows = interpreter.get_signature_runner("set_rows") if self.has_slots else None
        self._inputs: dict[str, Any] = self._train.get_input_details()
        self._weights: dict[str, Any] = self._set_weights.get_input_details()
        for name in _TRAIN_ONLY:
            if self._inputs[name]["dtype"] is not np.float32:
                raise self._unfit(f"takes {name} as {self._inputs[name]['dtype'].__name__}, not float32")
        self.batch_size = int(self._inputs["label"]["shape"][0])
        # Not `interpreter.invoke`: that refuses to run while a signature's runner exists.
        self._invoke = getattr(getattr(interpreter, "_interpreter", None), "Invoke", None)
        self._places = self._places_in_own_graph()
        self._loss_place = int(self._train.get_output_details()["loss"]["index"])

    def _check_names(self, signatures: Mapping[str, Any]) -> None:
        outputs = {name: set(signature["outputs"]) for name, signature in signatures.items()}
        inputs = {name: set(signature["inputs"]) for name, signature in signatures.items()}
        features = set(self.feature_names)
        expected = [
            ("inputs of train", inputs["train"], features | set(_TRAIN_ONLY)),
            ("outputs of train", outputs["train"], {"loss"}),
            ("outputs of infer", outputs["infer"], {"logit"}),
            ("inputs of set_weights", inputs["set_weights"], outputs["get_weights"]),
        ]
        if self.embeds:
            expected.append(("inputs of embed", inputs["embed"], features))
            expected.append(("outputs of embed", outputs["embed"], {"user_vector", "item_vector"}))
        for what, got, wanted in expected:
            if got != wanted:
                raise self._unfit(f"{what} are {sorted(got)}, expected {sorted(wanted)}")

    def _places_in_own_graph(self) -> dict[str, int] | None:
        """Where the inputs of `train` lie, if it is the graph that the interpreter runs without a signature."""
        own, train = self._interpreter.get_input_details(), self._inputs.values()
        if self._invoke is None or sorted(map(_identity, own)) != sorted(map(_identity, train)):
            return None  # another runtime, or a file of an earlier converter
        return {name: details["index"] for name, details in self._inputs.items()}

    def _unfit(self, what: str) -> ModelFileError:
        return ModelFileError(f"model file {self._where}: {what}; convert it again with this version's converters")

    def check_features(self, schema: FeatureSchema) -> None:
        """Make sure that samples of ``schema`` fit this model.

        Raises:
            ModelFileError: If names, dtypes or shapes differ.
        """
        wanted = {f.name: (f.dtype, f.shape(self.batch_size)) for f in schema.features}
        got = {name: _dtype_and_shape(self._inputs[name]) for name in self.feature_names}
        if got != wanted:
            wrong = sorted({*got.items()} ^ {*wanted.items()})
            raise ModelFileError(f"model file {self._where}: does not take samples of schema {schema.digest}: {wrong}")

    def check_rows(self, table: TableRows | None) -> None:
        """Make sure that rows of ``table`` fit this model; None stands for a model that holds all of its rows.

        Raises:
            ModelFileError: If it wants other rows, or none.
        """
        details = {} if self._set_rows is None else self._set_rows.get_input_details()
        got = {name: tuple(map(int, values["shape"])) for name, values in details.items()}
        wanted = {} if table is None else {c.weight: (table.slots, c.width) for c in table.columns}
        if got != wanted:
            raise self._unfit(f"takes rows {got}, the task describes {wanted}")

    def set_rows(self, rows: Mapping[str, Array]) -> None:
        """Put rows into the slots: [slots, d] for each weight that `check_rows` compared. The pull is toward them."""
        if self._set_rows is None:
            raise self._unfit("has no signature set_rows")
        self._set_rows(**rows)

    def train_step(self, inputs: Mapping[str, Array]) -> float:
        """One gradient step on one batch.

        Args:
            inputs: Every feature [B, ...]; ``label`` and ``weight`` float32 [B]; ``learning_rate`` and ``proximal``
                float32 []. Unchecked: this is the inner loop.

        Returns:
            The batch's weighted mean loss before the step.
        """
        if self.before_step is not None:
            self.before_step()
        if self._places is None or self._invoke is None:
            return float(self._train(**inputs)["loss"])
        # A signature's runner would look every input up, size it and plan memory again, at each step.
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._places[name], value)
        self._invoke(0)
        return float(self._interpreter.get_tensor(self._loss_place))

    def infer(self, features: Mapping[str, Array]) -> NDArray[np.float32]:
        """Logits, float32 [n], of features [n, ...]; computed in chunks."""
        return self._chunked(self._infer, features)["logit"]

    def embed(self, features: Mapping[str, Array]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """User vectors [n, du] and item vectors [n, di] of features [n, ...]; computed in chunks.

        Raises:
            ModelFileError: If the model has no `embed` signature.
        """
        if self._embed is None:
            raise self._unfit("has no signature embed, so it is not a recommender")
        vectors = self._chunked(self._embed, features)
        return vectors["user_vector"], vectors["item_vector"]

    def _chunked(self, runner: Callable[..., dict[str, Array]], features: Mapping[str, Array]) -> dict[str, Array]:
        columns = {name: features[name] for name in self.feature_names}
        samples = len(next(iter(columns.values())))
        if samples == 0:  # the runtimes reject empty tensors: take the outputs' shapes from one row of zeros
            one = runner(**{name: np.zeros((1, *column.shape[1:]), column.dtype) for name, column in columns.items()})
            return {name: output[:0] for name, output in one.items()}
        starts = range(0, samples, CHUNK_SAMPLES)
        with self.faults_named():
            parts = [self._call(runner, {n: c[at : at + CHUNK_SAMPLES] for n, c in columns.items()}) for at in starts]
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _call(self, runner: Callable[..., dict[str, Array]], columns: Mapping[str, Array]) -> dict[str, Array]:
        if self.before_step is not None:
            self.before_step()
        return runner(**columns)

    @contextmanager
    def faults_named(self) -> Iterator[None]:
        """Turn the runtime's own exceptions, such as that of an id outside its table, into `ModelFileError`."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(f"model file {self._where}: the runtime stopped: {error}") from error

    def get_weights(self) -> Weights:
        """A copy of every trainable tensor by name."""
        weights: Weights = self._get_weights()
        return weights

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Replace every trainable tensor, and forget what an optimiser with a memory gathered.

        Raises:
            ModelFileError: If names, shapes or dtypes are not this model's.
        """
        got = {name: (array.dtype.name, array.shape) for name, array in weights.items()}
        wanted = {name: _dtype_and_shape(details) for name, details in self._weights.items()}
        if got != wanted:
            wrong = sorted({*got.items()} ^ {*wanted.items()})
            raise ModelFileError(f"weights are not of model {self._where}: {wrong[:4]}")
        self._set_weights(**weights)
        if self._reset is not None:
            self._reset()


def _identity(details: Mapping[str, Any]) -> tuple[int, str, tuple[int, ...]]:
    return (int(details["index"]), *_dtype_and_shape(details))


def _dtype_and_shape(details: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    return np.dtype(details["dtype"]).name, tuple(map(int, details["shape"]))
