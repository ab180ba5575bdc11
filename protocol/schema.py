"""Which features a sample has: one description shared by models, samples on disk and samples on the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from protocol.errors import MalformedMessageError

MAX_FEATURES = 64
MAX_FEATURE_LENGTH = 1024
MAX_VOCABULARY = 1 << 31  # ids are int32
_ITEM = "item"
RESERVED_NAMES = frozenset({"label", "time_s", "weight", "learning_rate", "proximal"})  # beside features in a signature


class FeatureKind(str, Enum):
    """How a feature's numbers are to be read."""

    CATEGORICAL = "categorical"  # one id
    MULTIVALUED = "multivalued"  # a set of ids, order without meaning, padded with 0
    SEQUENCE = "sequence"  # ids in time order, oldest first, padded with 0 in front
    DENSE = "dense"  # real numbers


@dataclass(frozen=True)
class Feature:
    """One feature of a sample.

    Attributes:
        name: Its key in a batch and its input name in a model's signatures.
        kind: How its numbers are to be read.
        length: Columns it has; 1 for a categorical feature.
        vocabulary: Ids run from 0 to ``vocabulary - 1``; 0 means padding or unknown. None for a dense feature.
        table: Name of the embedding table it looks its ids up in; features that name the same table share it.
    """

    name: str
    kind: FeatureKind
    length: int = 1
    vocabulary: int | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in RESERVED_NAMES:
            raise MalformedMessageError(
                f"feature name {self.name[:80]!r}: must be an identifier, and none of {sorted(RESERVED_NAMES)}"
            )
        if type(self.length) is not int or not 1 <= self.length <= MAX_FEATURE_LENGTH:
            raise MalformedMessageError(f"feature {self.name}: length {self.length} is not in 1..{MAX_FEATURE_LENGTH}")
        if self.kind is FeatureKind.CATEGORICAL and self.length != 1:
            raise MalformedMessageError(f"feature {self.name}: a categorical feature has one column, not {self.length}")
        if self.kind is FeatureKind.DENSE:
            if self.vocabulary is not None or self.table is not None:
                raise MalformedMessageError(f"feature {self.name}: a dense feature has no vocabulary and no table")
        elif type(self.vocabulary) is not int or not 2 <= self.vocabulary <= MAX_VOCABULARY:
            raise MalformedMessageError(f"feature {self.name}: vocabulary {self.vocabulary!r} is not in 2..2**31")
        elif not isinstance(self.table, str):
            raise MalformedMessageError(f"feature {self.name}: needs the name of a table")

    @property
    def dtype(self) -> str:
        """NumPy's name of the type of its numbers: ids are int32, dense values float32."""
        return "float32" if self.kind is FeatureKind.DENSE else "int32"

    def shape(self, samples: int) -> tuple[int, ...]:
        """Shape of this feature's array in a batch of ``samples``: [n] for categorical, else [n, length]."""
        return (samples,) if self.kind is FeatureKind.CATEGORICAL else (samples, self.length)


@dataclass(frozen=True)
class FeatureSchema:
    """The features of a sample, in order."""

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) != len(names):
            raise MalformedMessageError(f"a schema has 1..{MAX_FEATURES} features with distinct names, got {names}")
        sizes: dict[str, int] = {}
        for feature in self.features:
            if feature.table is None or feature.vocabulary is None:
                continue
            if sizes.setdefault(feature.table, feature.vocabulary) != feature.vocabulary:
                raise MalformedMessageError(f"table {feature.table}: its features disagree on the vocabulary")

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    @property
    def item(self) -> Feature | None:
        """The feature that says what a sample is about: ``item``, else the first with one id; None if there is none."""
        single = [feature for feature in self.features if feature.kind is FeatureKind.CATEGORICAL]
        named = next((feature for feature in single if feature.name == _ITEM), None)
        return named or next(iter(single), None)

    @property
    def tables(self) -> dict[str, int]:
        """Rows of each embedding table, by its name."""
        return {f.table: f.vocabulary for f in self.features if f.table is not None and f.vocabulary is not None}

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this schema; samples and models that differ in it do not mix."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for messages and files."""
        return {"features": [{**asdict(feature), "kind": feature.kind.value} for feature in self.features]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSchema:
        """Inverse of `to_dict`.

        Raises:
            MalformedMessageError: If a field is missing or does not fit.
        """
        try:
            rows = [dict(row) for row in values["features"]]
            return cls(tuple(Feature(**{**row, "kind": FeatureKind(row["kind"])}) for row in rows))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedMessageError(f"feature schema: {error}") from error
