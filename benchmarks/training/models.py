"""The models that are compared, by name."""

from __future__ import annotations

from typing import Any

from protocol.schema import FeatureSchema

MODELS = ("lr", "wide_deep", "deepfm", "pnn", "din", "plain_din")


def build(name: str, schema: FeatureSchema, embedding_dim: int) -> Any:
    """The Keras model: the zoo's recommender in the sizes that devices get, or `plain_din`."""
    if name == "plain_din":
        from benchmarks.training.plain_din import plain_din

        return plain_din(schema, embedding_dim=embedding_dim)
    from converters.zoo.recommenders import build_recommender

    return build_recommender(name, schema, embedding_dim)
