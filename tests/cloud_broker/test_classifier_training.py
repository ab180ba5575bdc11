"""What the cloud teaches the sample classifier before devices train it."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from cloud_broker.models.classifier_training import prepared_classifier
from protocol.samples import SampleBatch
from protocol.schema import Feature, FeatureKind, FeatureSchema

_ITEMS = 40
_SCHEMA = FeatureSchema((Feature("item", FeatureKind.CATEGORICAL, 1, _ITEMS, "item"),))
_OPINION = np.where(np.random.default_rng(7).random(_ITEMS) < 0.5, 0, 1)  # of camp 0; camp 1 thinks the opposite


def _pool(contributors: int, samples: int) -> tuple[SampleBatch, NDArray[np.int32], NDArray[np.intp]]:
    """Samples of contributors in two camps of opposite opinions, their owners and camps."""
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(contributors), samples).astype(np.int32)
    item = rng.integers(0, _ITEMS, len(owner)).astype(np.int32)
    camp = owner % 2
    label = (_OPINION[item] ^ camp).astype(np.float32)
    return SampleBatch(_SCHEMA, {"item": item}, label, np.arange(len(owner))), owner, camp.astype(np.intp)


def _recommender() -> keras.Model:
    item = keras.Input((), dtype="int32", name="item")
    table = keras.layers.Embedding(_ITEMS, 24, embeddings_initializer=keras.initializers.RandomNormal(seed=3))
    return keras.Model({"item": item}, {"item_vector": keras.layers.UnitNormalization()(table(item))})


def _hidden(recommender: keras.Model, classifier: keras.Model, pool: SampleBatch) -> NDArray[np.float32]:
    body = keras.Model(classifier.input, classifier.get_layer("hidden_1").output)
    content = recommender(dict(pool.features))["item_vector"].numpy()
    hidden: NDArray[np.float32] = body({"content": content, "outcome": pool.label[:, None]}).numpy()
    return hidden


def test_twenty_samples_then_tell_the_camps_apart() -> None:
    """A line drawn by 20 samples of one contributor finds its camp on items that the 20 say nothing of."""
    pool, owner, camp = _pool(contributors=40, samples=60)
    recommender = _recommender()
    classifier = prepared_classifier(recommender, pool, owner)
    hidden = _hidden(recommender, classifier, pool)
    own, others = hidden[:20], hidden[owner > 1]
    direction = own.mean(axis=0) - others.mean(axis=0)
    unseen = (owner > 1) & ~np.isin(pool.features["item"], pool.features["item"][:20])
    score = hidden @ direction
    alike, opposed = (score[unseen & (camp == which)] for which in (0, 1))
    assert (alike[:, np.newaxis] > opposed).mean() > 0.85


def test_the_score_layer_is_the_devices_own() -> None:
    """It comes without an opinion; and of one contributor nothing can be learnt, which is no error."""
    for contributors in (1, 6):
        pool, owner, _ = _pool(contributors, samples=30)
        classifier = prepared_classifier(_recommender(), pool, owner)
        assert all((weights == 0).all() for weights in classifier.get_layer("score").get_weights())
