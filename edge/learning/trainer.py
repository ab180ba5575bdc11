"""The training loop around a model's `train` signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.learning.model import Model, Weights
from edge.learning.sampling import Sampler

Array = NDArray[Any]
Progress = Callable[[int, int], None]

# Steps whose batches are gathered at once. A step takes tens of microseconds, so gathering batch by batch would cost as
# much as training; 64 batches of 32 samples with 50 columns are 400 KB, which stays in the cache.
BLOCK_STEPS = 64


class Trainer:
    """Trains one model and remembers the weights it came with.

    Attributes:
        model: The model; its state is this trainer's.
        initial: Those weights.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.initial = model.get_weights()

    def fit(
        self,
        sampler: Sampler,
        steps: int,
        learning_rate: float,
        proximal: float = 0.0,
        *,
        on_progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Take ``steps`` gradient steps from the model's present weights.

        Args:
            sampler: Gives the columns and the rows of each batch.
            steps: Number of batches.
            learning_rate: Step size.
            proximal: Strength of the pull toward the weights in the file.
            on_progress: Called with steps done and steps in all, before each block of `BLOCK_STEPS` and at the end.

        Returns:
            Loss of each batch before its step, float32 [steps].
        """
        losses = np.empty(steps, np.float32)
        inputs: dict[str, Array] = {
            "weight": np.ones(self.model.batch_size, np.float32),
            "learning_rate": np.array(learning_rate, np.float32),
            "proximal": np.array(proximal, np.float32),
        }
        for start in range(0, steps, BLOCK_STEPS):
            if on_progress is not None:
                on_progress(start, steps)
            stop = min(start + BLOCK_STEPS, steps)
            rows = sampler.draw(stop - start, self.model.batch_size)
            self._fit_block(sampler.columns, rows, inputs, losses[start:stop])
        if on_progress is not None:
            on_progress(steps, steps)
        return losses

    def _fit_block(
        self, columns: Mapping[str, Array], rows: NDArray[np.intp], inputs: dict[str, Array], losses: Array
    ) -> None:
        names = [*self.model.feature_names, "label"]
        blocks = [columns[name].take(rows, axis=0) for name in names]
        train_step = self.model.train_step
        with self.model.faults_named():
            for step, batch in enumerate(zip(*blocks, strict=True)):  # each a view of one batch
                inputs.update(zip(names, batch, strict=True))
                losses[step] = train_step(inputs)

    def logits(self, features: Mapping[str, Array]) -> NDArray[np.float32]:
        """Logits, float32 [n], of features [n, ...]; other columns are ignored."""
        return self.model.infer(features)

    def predict(self, features: Mapping[str, Array]) -> NDArray[np.float32]:
        """Probabilities of label 1, float32 [n], of features [n, ...]."""
        return sigmoid(self.logits(features))

    def snapshot(self) -> Weights:
        """A copy of the present weights."""
        return self.model.get_weights()

    def restore(self, weights: Mapping[str, Array]) -> None:
        """Put weights back.

        Raises:
            ModelFileError: If they are not this model's.
        """
        self.model.set_weights(weights)

    def reset(self) -> None:
        """Put the weights back that the model came with: h0's, for a recommender."""
        self.model.set_weights(self.initial)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow."""
    result: NDArray[np.float32] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result
