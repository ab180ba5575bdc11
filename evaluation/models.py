"""How h0 is trained for the labels at hand: the settings that the evaluation found, and that the demo uses."""

from __future__ import annotations

from cloud_broker.options import ModelOptions
from converters.zoo.names import DEFAULT_RECOMMENDER
from evaluation.samples import Labels

# By network, where it is not what DIN was tuned to; chosen on the validation slice (docs/evaluation-notes.md).
_IMPLICIT_DECAY = {"pnn": 0.5}
_EXPLICIT_DECAY = {"wide_deep": 1.0, "deepfm": 1.0}


def model_options(labels: Labels, seed: int = 1, recommender: str = DEFAULT_RECOMMENDER) -> ModelOptions:
    """How h0 is trained for labels of this kind; the evidence is in docs/evaluation-notes.md."""
    if labels is Labels.IMPLICIT:
        decay = _IMPLICIT_DECAY.get(recommender, 0.2)
        return ModelOptions(seed=seed, recommender=recommender, weight_decay=decay)
    # Where a negative is an item rated low, users differ in how many they have, and there is less to learn. Nothing is
    # chosen by the users left out, so few are.
    return ModelOptions(
        seed=seed,
        recommender=recommender,
        epochs=7,
        patience=0,
        weight_decay=_EXPLICIT_DECAY.get(recommender, 2.0),
        item_rates=True,
        user_intercepts=True,
        validation_share=0.01,
    )
