"""Controls: small worlds of known truth, through conversion, matching, classifier, tuning and gate."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.controls import CONTROLS, ControlOptions


def test_the_classifier_tells_clusters_apart_and_coda_uses_it() -> None:
    """Where tastes conflict and no history shows it, what the cloud taught the classifier reaches the served model."""
    found = CONTROLS["positive"](ControlOptions(users=150, max_devices=4, workers=1))
    told_apart = next(promise for promise in found.promises if "classifier" in promise.text)
    assert told_apart.held, told_apart
    means = found.mean_auc
    assert means["coda"] > means["cloud"] + 0.1
    assert means["coda"] > means["matched"] + 0.1
    assert means["oracle"] > 0.9


@pytest.mark.parametrize("name", ["negative", "poisoned-20"])
def test_no_harm_is_done(name: str) -> None:
    """Where there is nothing to gain, or a fifth of the pool lies, devices rank about as well as before.

    Of a dozen devices only much harm shows: local tuning at the same steps loses more than the bound.
    """
    found = CONTROLS[name](ControlOptions(users=100, max_devices=12, workers=1))
    assert np.isfinite(list(found.mean_auc.values())).all()
    assert found.over_cloud.mean > -0.01, found
