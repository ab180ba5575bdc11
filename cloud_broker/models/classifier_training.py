"""What the cloud teaches the sample classifier before a device does: which samples go together.

A device has some 20 samples to tell its own from others. From so few nobody learns which opinions come together; from
a pool anyone can. So the classifier's hidden layer is trained here to tell every contributor's samples from everybody
else's, each contributor with a score layer of its own (many tasks over one layer; Caruana, 1997). The contributors'
score layers are thrown away, the device trains one for itself. On the positive control (docs/evaluation.md) this lifts
the classifier's AUC from 0.74 to 0.96.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from converters.zoo.classifier import sample_classifier
from protocol.samples import SampleBatch

_EMBED_ROWS = 8192
_BATCH_SIZE = 512
_LEARNING_RATE = 5e-3
_STEPS = (600, 3000)  # at least and at most; between, so many passes over the pool:
_EPOCHS = 4
_HIDDEN, _SCORE = "hidden_1", "score"  # layers of the classifier

Array = NDArray[np.float32]


def prepared_classifier(
    recommender: keras.Model, pool: SampleBatch, owner: NDArray[np.integer[Any]], *, seed: int = 1
) -> keras.Model:
    """A sample classifier that finds on a few samples what it would not find without the pool.

    Args:
        recommender: h0; gives the samples' contents.
        pool: Samples of any number of contributors; of fewer than two, there is nothing to learn.
        owner: [n], each sample's contributor.
        seed: Of the start and of the order.
    """
    keras.utils.set_random_seed(seed)
    classifier = sample_classifier(int(recommender.output["item_vector"].shape[-1]))
    contributors, number = np.unique(owner, return_inverse=True)
    if len(contributors) > 1:
        outcome = pool.label[:, np.newaxis]
        _train(classifier, _contents(recommender, pool), outcome, number.astype(np.int32), np.random.default_rng(seed))
    # The device's own score layer: until it is trained, no sample is more local than another.
    classifier.get_layer(_SCORE).set_weights([np.zeros_like(w) for w in classifier.get_layer(_SCORE).get_weights()])
    return classifier


def _contents(recommender: keras.Model, pool: SampleBatch) -> Array:
    pieces = []
    for begin in range(0, len(pool), _EMBED_ROWS):
        part = pool.take(slice(begin, begin + _EMBED_ROWS))
        pieces.append(recommender(dict(part.features), training=False)["item_vector"].numpy())
    return np.concatenate(pieces)


def _train(
    classifier: keras.Model, content: Array, outcome: Array, owner: NDArray[np.int32], rng: np.random.Generator
) -> None:
    body = keras.Model(classifier.input, classifier.get_layer(_HIDDEN).output)
    scores = keras.Variable(rng.normal(0.0, 0.3, (int(owner.max()) + 1, int(body.output.shape[-1]))).astype(np.float32))
    optimizer = keras.optimizers.Adam(_LEARNING_RATE)
    trained = [*body.trainable_variables, scores]
    optimizer.build(trained)

    def step(x: Any, y: Any, user: Any, other: Any) -> None:
        with tf.GradientTape() as tape:
            hidden = body({"content": x, "outcome": y}, training=True)
            own, foreign = (tf.reduce_sum(hidden * tf.gather(scores.value, who), 1) for who in (user, other))
            loss = tf.reduce_mean(tf.nn.softplus(-own) + tf.nn.softplus(foreign))
        optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))

    graph = tf.function(step, reduce_retracing=True, autograph=False)
    size = min(_BATCH_SIZE, len(owner))
    for _ in range(int(np.clip(_EPOCHS * len(owner) // size, *_STEPS))):
        rows = rng.integers(0, len(owner), size)
        # Others are drawn as often as they have samples; now and then that is the contributor itself.
        graph(content[rows], outcome[rows], owner[rows], owner[rng.integers(0, len(owner), size)])
