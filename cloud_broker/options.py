"""How the cloud makes its models; apart from the code that does it, so that a configuration loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_broker.errors import ConfigError
from converters.options import TRAINABLE_SETS
from converters.zoo.names import DEFAULT_RECOMMENDER, RECOMMENDERS
from protocol.rows import MAX_SLOTS


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How the models are made.

    Attributes:
        recommender: h0's network, one of the zoo's `RECOMMENDERS`.
        embedding_dim: Columns of h0's tables.
        epochs: At most so many passes over the pool.
        patience: Epochs without a lower validation log-loss before training stops; 0 keeps the last of ``epochs``.
        learning_rate: Of h0's training.
        weight_decay: Of h0's training.
        item_rates: Whether h0's item biases start from each item's own rate of likes in the pool.
        user_intercepts: Whether each contributor has an intercept while h0 trains; see `training.train_global`.
        validation_share: Share that h0 does not train on and is judged by: of the contributors, or where these are few,
            of each one's samples, the latest.
        trainable: What of h0 a device tunes: ``all``, ``head`` (embeddings stay as they are) or ``embeddings``.
        device_batch_size: Samples in a device's training step; fixed in the files.
        slots: Rows of its largest table that h0's file has room for, where that table has more: then its rows travel
            apart, those that a device needs. On ml-latest-small a device's own and 4,000 matched samples have 1,700 to
            5,100 items, one device's of 48 more than 4,095: that one goes without some of its last matched samples.
        seed: Of everything random.

    Raises:
        ConfigError: If a value is out of bounds.
    """

    recommender: str = DEFAULT_RECOMMENDER
    embedding_dim: int = 24
    epochs: int = 12
    patience: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 0.2
    item_rates: bool = False
    user_intercepts: bool = False
    validation_share: float = 0.05
    trainable: str = "all"
    device_batch_size: int = 64
    slots: int = 4096
    seed: int = 1

    def __post_init__(self) -> None:
        if self.recommender not in RECOMMENDERS:
            raise ConfigError(f"models: recommender must be one of {', '.join(RECOMMENDERS)}, got {self.recommender!r}")
        if self.trainable not in TRAINABLE_SETS:
            raise ConfigError(f"models: trainable must be one of {', '.join(TRAINABLE_SETS)}, got {self.trainable!r}")
        for name in ("embedding_dim", "epochs", "device_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"models: {name} must be at least 1, got {getattr(self, name)}")
        if self.patience < 0:
            raise ConfigError(f"models: patience must not be negative, got {self.patience}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ConfigError("models: learning_rate must be positive, weight_decay not negative")
        if not 2 <= self.slots <= MAX_SLOTS:
            raise ConfigError(f"models: slots must be in 2..{MAX_SLOTS}, got {self.slots}")
        if not 0 < self.validation_share < 1:
            raise ConfigError(f"models: validation_share must lie between 0 and 1, got {self.validation_share}")
