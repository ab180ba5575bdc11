"""What a conversion is asked to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.errors import ConversionError
from protocol.schema import FeatureSchema

TRAINABLE_SETS = ("all", "head", "embeddings")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Choices of a conversion.

    Attributes:
        batch_size: Samples in one training step; fixed in the file. ``infer`` takes any number.
        optimizer: Name of the update rule.
        trainable: Which weights train: ``all``; ``embeddings``, the tables of Embedding layers; ``head``, every other
            weight; or a regular expression searched for in a weight's path. The others become constants, and cost
            no gradient.
        parity_steps: Steps of the parity gate, at least 50.
        schema: The features, where known: their vocabularies bound the ids of the parity batches. Without it, ids stay
            below the rows of the smallest Embedding of the model.
        seed: Of the parity batches.
        slots: Rows that the file holds of a table of ``schema``, by the table's name; see `converters.tables`. Ids of
            its features are then numbers of slots, and slot 0 stands for padding, as id 0 does.
    """

    batch_size: int = 64
    optimizer: str = "sgd"
    trainable: str = "all"
    parity_steps: int = 50
    schema: FeatureSchema | None = None
    seed: int = 1
    slots: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConversionError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.parity_steps < 50:
            raise ConversionError(f"parity_steps must be at least 50, got {self.parity_steps}")
        try:
            re.compile(self.trainable)
        except re.error as error:
            raise ConversionError(f"trainable {self.trainable!r} is no regular expression: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for reports."""
        return {
            "batch_size": self.batch_size,
            "optimizer": self.optimizer,
            "trainable": self.trainable,
            "parity_steps": self.parity_steps,
            "schema": None if self.schema is None else self.schema.digest,
            "seed": self.seed,
            "slots": dict(self.slots),
        }
