"""How well a device's three models rank its test samples: the cloud's, a locally tuned one, and the one it serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cloud_broker.rows import RowFile
from edge.recommender import Personal, Recommender, latest_that_fit
from edge.runtime import open_model
from edge.tuning import tune
from evaluation.metrics import auc
from evaluation.split import Device
from protocol.recipe import Recipe
from protocol.samples import empty_batch


def judge(
    model_file: Path, rows: RowFile | None, device: Device, served: Personal | None, recipe: Recipe
) -> Mapping[str, float | None]:
    """Test AUC by model.

    Args:
        model_file: h0.
        rows: What that file does not hold of its largest table.
        device: Its local samples, and its test samples, which no model was trained on.
        served: The personal model that the device serves; None for h0.
        recipe: Of the round. The local-only model takes as many steps, on all local samples and no others.
    """
    recommender = Recommender(open_model(model_file), None if rows is None else rows.table, rows)
    local = latest_that_fit(device.local, recommender.table)
    ready = recommender.prepare(local, empty_batch(local.schema))
    tuned = tune(ready.trainer, ready.local, ready.matched, np.zeros(0, np.float32), recipe)

    def score(personal: Personal | None) -> float | None:
        return auc(device.test.label, recommender.logits(device.test, personal))

    return {"cloud": score(None), "local": score(ready.personal(tuned.weights)), "coda": score(served)}
