"""How well a device's three models rank its test samples: the cloud's, a locally tuned one, and the one it serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge.model import Weights
from edge.runtime import open_model
from edge.trainer import Trainer
from edge.tuning import tune
from evaluation.metrics import auc
from evaluation.split import Device
from protocol.recipe import Recipe
from protocol.samples import empty_batch


def judge(model_file: Path, device: Device, served: Weights | None, recipe: Recipe) -> Mapping[str, float | None]:
    """Test AUC by model.

    Args:
        model_file: h0.
        device: Its local samples, and its test samples, which no model was trained on.
        served: The weights that the device serves; None for h0's.
        recipe: Of the round. The local-only model takes as many steps, on all local samples and no others.
    """
    trainer = Trainer(open_model(model_file))
    nothing = empty_batch(device.local.schema)
    local = tune(trainer, device.local, nothing, np.zeros(0, np.float32), recipe).weights

    def score(weights: Weights | None) -> float | None:
        if weights is None:
            trainer.reset()
        else:
            trainer.restore(weights)
        return auc(device.test.label, trainer.logits(device.test.features))

    return {"cloud": score(None), "local": score(local), "coda": score(served)}
