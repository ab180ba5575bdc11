"""Optimisers as pure functions over tensors, so that the same rule runs in TensorFlow and, converted, on a device.

Every hyper-parameter is an input of the step, never a constant of the file: a device can be told another learning
rate without another model. All rules see dense gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from converters.errors import ConversionError

Tensor = Any
Hyper = Mapping[str, Tensor]


class Optimizer(ABC):
    """One update rule.

    Attributes:
        name: How it is chosen.
        hyper: Its hyper-parameters and their defaults; each is a scalar input of ``train``.
        slots: Its accumulators of a weight's shape and what each starts from.
        scalars: Its accumulators of the whole model and what each starts from.
    """

    name: ClassVar[str]
    hyper: ClassVar[Mapping[str, float]]
    slots: ClassVar[Mapping[str, float]] = {}
    scalars: ClassVar[Mapping[str, float]] = {}

    def gradient_scale(self, hyper: Hyper) -> Tensor:
        """What the loss is multiplied by before it is differentiated.

        A rule that is linear in the gradient takes its learning rate here, once per sample instead of once per weight.
        """
        del hyper
        return 1.0

    def advance(self, scalars: Mapping[str, Tensor], hyper: Hyper) -> dict[str, Tensor]:
        """The model-wide accumulators after one more step; called once a step, before `update`."""
        del hyper
        return dict(scalars)

    @abstractmethod
    def update(
        self, weight: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor], hyper: Hyper
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of one weight.

        Args:
            weight: Its value, of any shape.
            gradient: Of the loss by it, times `gradient_scale`; same shape.
            slots: This weight's accumulators, same shape.
            scalars: The model-wide accumulators, already advanced.
            hyper: A scalar for every name in ``hyper``.

        Returns:
            The new weight and its new slots.
        """


class Sgd(Optimizer):
    """Plain stochastic gradient descent: w - learning_rate * g."""

    name = "sgd"
    hyper: ClassVar[Mapping[str, float]] = {"learning_rate": 0.05}

    def gradient_scale(self, hyper: Hyper) -> Tensor:
        """See `Optimizer.gradient_scale`."""
        return hyper["learning_rate"]

    def update(
        self, weight: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor], hyper: Hyper
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Optimizer.update`."""
        return weight - gradient, {}


class Momentum(Optimizer):
    """Gradient descent with a velocity: v = momentum * v - learning_rate * g; w + v. As Keras' SGD."""

    name = "momentum"
    hyper: ClassVar[Mapping[str, float]] = {"learning_rate": 0.02, "momentum": 0.9}
    slots: ClassVar[Mapping[str, float]] = {"velocity": 0.0}

    def gradient_scale(self, hyper: Hyper) -> Tensor:
        """See `Optimizer.gradient_scale`."""
        return hyper["learning_rate"]

    def update(
        self, weight: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor], hyper: Hyper
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Optimizer.update`."""
        velocity = hyper["momentum"] * slots["velocity"] - gradient
        return weight + velocity, {"velocity": velocity}


class Adagrad(Optimizer):
    """Adaptive gradients (Duchi et al., 2011): a = a + g^2; w - learning_rate * g / sqrt(a + epsilon). As Keras'."""

    name = "adagrad"
    hyper: ClassVar[Mapping[str, float]] = {"learning_rate": 0.02, "epsilon": 1e-7}
    slots: ClassVar[Mapping[str, float]] = {"accumulator": 0.1}

    def update(
        self, weight: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor], hyper: Hyper
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Optimizer.update`."""
        accumulator = slots["accumulator"] + gradient * gradient
        step = hyper["learning_rate"] * gradient / tf.sqrt(accumulator + hyper["epsilon"])
        return weight - step, {"accumulator": accumulator}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), with the bias corrections in the step size. As Keras'."""

    name = "adam"
    hyper: ClassVar[Mapping[str, float]] = {"learning_rate": 0.002, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    slots: ClassVar[Mapping[str, float]] = {"mean": 0.0, "square": 0.0}
    scalars: ClassVar[Mapping[str, float]] = {"beta_1_power": 1.0, "beta_2_power": 1.0}

    def advance(self, scalars: Mapping[str, Tensor], hyper: Hyper) -> dict[str, Tensor]:
        """See `Optimizer.advance`."""
        return {
            "beta_1_power": scalars["beta_1_power"] * hyper["beta_1"],
            "beta_2_power": scalars["beta_2_power"] * hyper["beta_2"],
        }

    def update(
        self, weight: Tensor, gradient: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor], hyper: Hyper
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Optimizer.update`."""
        mean = slots["mean"] + (1.0 - hyper["beta_1"]) * (gradient - slots["mean"])
        square = slots["square"] + (1.0 - hyper["beta_2"]) * (gradient * gradient - slots["square"])
        correction = tf.sqrt(1.0 - scalars["beta_2_power"]) / (1.0 - scalars["beta_1_power"])
        step = hyper["learning_rate"] * correction * mean / (tf.sqrt(square) + hyper["epsilon"])
        return weight - step, {"mean": mean, "square": square}


_OPTIMIZERS: dict[str, type[Optimizer]] = {rule.name: rule for rule in (Sgd, Momentum, Adagrad, Adam)}
OPTIMIZERS = tuple(_OPTIMIZERS)


def optimizer_named(name: str) -> Optimizer:
    """The optimiser of that name.

    Raises:
        ConversionError: If there is none.
    """
    try:
        return _OPTIMIZERS[name]()
    except KeyError:
        raise ConversionError(f"optimizer {name!r} is not one of {', '.join(sorted(_OPTIMIZERS))}") from None
