"""How well a device's three models rank its test samples: the cloud's, a locally tuned one, and the one it serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cloud_broker.models.rows import RowFile
from edge.learning.recommender import Personal, Recommender, latest_that_fit
from edge.learning.runtime import open_model
from evaluation.bench import local_only
from evaluation.metrics import auc
from evaluation.split import Device
from protocol.recipe import Recipe


def judge(
    model_file: Path, rows: RowFile | None, device: Device, served: Personal | None, recipe: Recipe
) -> Mapping[str, float | None]:
    """Test AUC by model.

    Args:
        model_file: h0.
        rows: What that file does not hold of its largest table.
        device: Its local samples, and its test samples, which no model was trained on.
        served: The personal model that the device serves; None for h0.
        recipe: Of the round. The local-only model is the evaluation's arm ``local``: as many steps, on all local
            samples and no others, with nothing held back; h0 where there are too few samples.
    """
    recommender = Recommender(open_model(model_file), None if rows is None else rows.table, rows)
    local = latest_that_fit(device.local, recommender.table)

    def score(personal: Personal | None) -> float | None:
        return auc(device.test.label, recommender.logits(device.test, personal))

    return {"cloud": score(None), "local": score(local_only(recommender, local, recipe)), "coda": score(served)}
