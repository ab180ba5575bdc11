"""The sample classifier of a device: how likely is a sample (x, y) one of its own user's?

It sees the item's content vector x and the outcome y, never a user id or a history, which would make the split trivial.
"""

from __future__ import annotations

import keras


def sample_classifier(
    content_dim: int, *, hidden_units: tuple[int, ...] = (16,), activation: str = "relu"
) -> keras.Model:
    """P(local | x, y) as a logit.

    Whether a user is the kind that likes x depends on x and y together, so the first layer sees both and their product.

    Args:
        content_dim: Columns of ``content``, the recommender's ``item_vector``.
        hidden_units: Hidden layers; none makes it a logistic regression on content, outcome and their product.
        activation: Of the hidden layers.

    Returns:
        A model from ``content`` float32 [n, content_dim] and ``outcome`` float32 [n, 1] to ``logit`` [n].
    """
    content = keras.Input((content_dim,), name="content")
    outcome = keras.Input((1,), name="outcome")
    x = keras.layers.Concatenate(name="joined")([content, content * outcome, outcome])
    for depth, width in enumerate(hidden_units, start=1):
        x = keras.layers.Dense(width, activation=activation, name=f"hidden_{depth}")(x)
    logit = keras.ops.reshape(keras.layers.Dense(1, name="score")(x), (-1,))
    return keras.Model({"content": content, "outcome": outcome}, {"logit": logit}, name="sample_classifier")
