"""The zoo's recommenders by name, in the sizes that were tuned on MovieLens (docs/evaluation-notes.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import keras

from converters.zoo.deepfm import deepfm
from converters.zoo.din import din
from converters.zoo.lr import lr
from converters.zoo.pnn import pnn
from converters.zoo.wide_deep import wide_deep
from protocol.schema import FeatureSchema

_HIDDEN_UNITS = (64, 32)
# Embeddings of 0.05 start with inner products near nothing; of 0.1, models that live by those rank better.
_STDDEV = 0.1

_BUILDERS: Mapping[str, Callable[..., keras.Model]] = {
    "lr": lr,
    "wide_deep": partial(wide_deep, hidden_units=_HIDDEN_UNITS, stddev=_STDDEV),
    "deepfm": partial(deepfm, hidden_units=_HIDDEN_UNITS, stddev=_STDDEV),
    "pnn": partial(pnn, hidden_units=_HIDDEN_UNITS, stddev=_STDDEV),
    "din": din,
}


def build_recommender(name: str, schema: FeatureSchema, embedding_dim: int) -> keras.Model:
    """An untrained recommender: its outputs are ``logit``, ``user_vector`` and ``item_vector``.

    Args:
        name: One of `names.RECOMMENDERS`.
        schema: With ``item`` and a history ``liked``; DIN needs ``genres`` and ``disliked`` too.
        embedding_dim: Columns of its tables; of LR, of its vectors.

    Raises:
        KeyError: If the schema lacks a feature that the model needs; its argument is the feature's name.
    """
    for feature in ("item", "liked"):
        schema[feature]
    return _BUILDERS[name](schema, embedding_dim=embedding_dim)
