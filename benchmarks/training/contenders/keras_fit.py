"""Keras ``fit`` on TensorFlow, over arrays in the batches' order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from benchmarks.training.contenders import Passes
from benchmarks.training.job import Job


class _BatchLosses(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes the loss of each batch; Keras itself tells the mean of all batches so far."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.losses.append(float((logs or {})["loss"]))


def open_job(job: Job) -> Passes:
    """With the threads that TensorFlow chooses."""
    model = _compiled(job)
    columns = {name: block.reshape(-1, *block.shape[2:]) for name, block in job.blocks().items()}
    label = columns.pop("label")

    def fit(*callbacks: Any) -> None:
        model.fit(columns, label, batch_size=job.batch_size, shuffle=False, verbose=0, callbacks=list(callbacks))

    def first() -> Sequence[float]:
        noted = _BatchLosses()
        fit(noted)
        return noted.losses

    return Passes(first, fit)


def _compiled(job: Job) -> Any:
    """The model with its logit alone, so that nothing is computed that the loss does not need."""
    whole = keras.saving.load_model(job.keras, compile=False)
    if job.trainable == "head":
        for layer in whole.layers:
            layer.trainable = not isinstance(layer, keras.layers.Embedding)
    model = keras.Model(whole.input, whole.output["logit"])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.SGD(job.learning_rate), loss=loss)
    return model
