"""Training the global recommender h0 on the pool.

AdamW with a running average of the weights (Polyak averaging), stopped by the log-loss of samples it does not train on.
On ml-100k, implicit labels, devices the cloud has not seen, decay and averaging together lift the mean user AUC from
0.797 to 0.808 for the same network, and keep the log-loss from rising with every epoch. Log-loss stops rather than AUC
because devices start from h0's probabilities, and their gates judge by them: an h0 that ranks well and is overconfident
starts badly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cloud_broker.errors import TrainingError
from protocol.samples import SampleBatch

_PREDICT_ROWS = 8192
# Weights are averaged over about this share of an epoch: longer, and the average lags behind what was learnt.
_AVERAGED_EPOCHS = 1 / 3
_ITEM_BIAS = "item_bias"
# An intercept sees only its own user's samples, so it has to learn faster than what all users share.
_INTERCEPT_SPEED = 10.0
_INTERCEPT_PENALTY = 0.5


@dataclass(frozen=True)
class EpochResult:
    """One pass over the pool.

    Attributes:
        epoch: Counts from 1.
        train_log_loss: Mean over the pass, in nats, while the model changed.
        validation_log_loss: After it, in nats.
    """

    epoch: int
    train_log_loss: float
    validation_log_loss: float


@dataclass(frozen=True)
class TrainingResult:
    """What training did; the model holds the weights of ``chosen_epoch``.

    Attributes:
        history: Every epoch that ran.
        chosen_epoch: The one with the least validation log-loss.
        samples: Trained on.
        validation_samples: Judged by.
    """

    history: tuple[EpochResult, ...]
    chosen_epoch: int
    samples: int
    validation_samples: int

    @property
    def validation_log_loss(self) -> float:
        """Of the chosen epoch, in nats."""
        return self.history[self.chosen_epoch - 1].validation_log_loss

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for lineage."""
        return asdict(self)


def train_global(
    model: keras.Model,
    batch: SampleBatch,
    validation: SampleBatch,
    *,
    epochs: int = 12,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.2,
    patience: int = 2,
    seed: int = 1,
    owner: NDArray[np.integer[Any]] | None = None,
    on_progress: Callable[[EpochResult], None] | None = None,
) -> TrainingResult:
    """Train ``model`` in place (binary cross-entropy) and leave it with its best epoch's weights.

    Args:
        model: Takes a dict of features, returns a dict with ``logit`` [n].
        batch: What to train on.
        validation: What to judge by; never trained on.
        epochs: At most so many.
        batch_size: Samples a step; lowered to what there is. The last, incomplete batch of an epoch is left out.
        learning_rate: AdamW's.
        weight_decay: AdamW's, of all weights but the item biases, which a rare item's few samples could not hold up.
        patience: Epochs without a better validation log-loss before it stops; 0 runs every epoch and keeps the last.
            That suits intercepts: held-out users have none, so their log-loss does not tell how items are ordered.
        seed: Of the order of samples.
        owner: [n], each sample's user; if given, each user has an intercept of its own in training, which is no part of
            the model. It takes up how freely that user gives likes. Else the model reads that from the history, where
            it changes from sample to sample: that lowers the log-loss, and blurs the order of a user's own samples.
        on_progress: Told after every epoch.

    Raises:
        TrainingError: If there is nothing to train on or to judge by, or the loss is not finite.
    """
    if len(batch) == 0 or len(validation) == 0:
        raise TrainingError(f"{len(batch)} samples to train on and {len(validation)} to judge by: both are needed")
    users = None if owner is None else np.unique(owner, return_inverse=True)[1].astype(np.int32)
    trainer = _Trainer(model, keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay), users)
    rng = np.random.default_rng(seed)
    history: list[EpochResult] = []
    best = None
    best_weights = model.get_weights()
    for epoch in range(1, epochs + 1):
        trained = trainer.run_epoch(batch, min(batch_size, len(batch)), rng)
        with trainer.averaged_weights():
            result = EpochResult(epoch, trained, log_loss(model, validation))
            if best is None or patience == 0 or result.validation_log_loss < best.validation_log_loss:
                best, best_weights = result, model.get_weights()
        history.append(result)
        if not np.isfinite([trained, result.validation_log_loss]).all():
            raise TrainingError(f"the loss is not finite in epoch {epoch}: lower the learning rate")
        if on_progress is not None:
            on_progress(result)
        if patience and epoch - best.epoch >= patience:
            break
    model.set_weights(best_weights)
    return TrainingResult(tuple(history), best.epoch if best else 0, len(batch), len(validation))


def predict(model: keras.Model, batch: SampleBatch) -> NDArray[np.float32]:
    """The model's logits, float32 [n]."""
    pieces = []
    for begin in range(0, len(batch), _PREDICT_ROWS):
        part = batch.take(slice(begin, begin + _PREDICT_ROWS))
        pieces.append(model(dict(part.features), training=False)["logit"].numpy())
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def log_loss(model: keras.Model, batch: SampleBatch) -> float:
    """Mean binary cross-entropy of the model on n >= 1 samples, in nats; NaN if the model has diverged."""
    logit = predict(model, batch).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.logaddexp(0.0, logit) - batch.label * logit))


class _Trainer:
    """Steps of gradient descent, and the running average of the weights that they pass through."""

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, users: NDArray[np.int32] | None = None
    ) -> None:
        self._weights = [variable.value for variable in model.trainable_variables]
        self._averages = [tf.Variable(weight) for weight in self._weights]
        self._users = users
        intercepts = keras.Variable(np.zeros(1 if users is None else int(users.max()) + 1, np.float32))
        trained = [*model.trainable_variables, *([] if users is None else [intercepts])]
        steps = tf.Variable(0.0)
        biases = [variable for variable in model.trainable_variables if _ITEM_BIAS in variable.path]
        optimizer.exclude_from_weight_decay(var_list=biases)
        optimizer.build(trained)

        def step(features: dict[str, Any], label: Any, user: Any, keep_at_most: Any) -> Any:
            with tf.GradientTape() as tape:
                own = tf.gather(intercepts.value, user)
                logit = model(features, training=True)["logit"] + _INTERCEPT_SPEED * own
                loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(label, logit))
                penalised = loss + _INTERCEPT_PENALTY * tf.reduce_mean(own * own)
            gradients = tape.gradient(penalised, trained)
            optimizer.apply_gradients(zip(gradients, trained, strict=True))
            steps.assign_add(1.0)
            # Early averages would remember the random start for too long.
            keep = tf.minimum(keep_at_most, steps / (steps + 9.0))
            for average, weight in zip(self._averages, self._weights, strict=True):
                average.assign(keep * average + (1.0 - keep) * weight)
            return loss

        self._step = tf.function(step, autograph=False)

    def run_epoch(self, batch: SampleBatch, batch_size: int, rng: np.random.Generator) -> float:
        """One pass in random order; the mean loss of its steps."""
        order = rng.permutation(len(batch))
        losses = []
        averaged_steps = max(1.0, _AVERAGED_EPOCHS * len(batch) / batch_size)
        keep_at_most = tf.constant(1.0 - 1.0 / averaged_steps, tf.float32)
        for begin in range(0, len(batch) - batch_size + 1, batch_size):
            rows = order[begin : begin + batch_size]
            part = batch.take(rows)
            users = np.zeros(batch_size, np.int32) if self._users is None else self._users[rows]
            losses.append(self._step(dict(part.features), part.label, users, keep_at_most))
        return float(np.mean([loss.numpy() for loss in losses]))

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the model has the averages for weights."""
        current = [weight.numpy() for weight in self._weights]
        _assign(self._weights, [average.numpy() for average in self._averages])
        yield
        _assign(self._weights, current)


def _assign(variables: list[Any], values: list[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
