"""h0 of every network of the zoo: how it is trained, and that the whole way is open to more than one."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.zoo.names import RECOMMENDERS
from evaluation.building import build_world
from evaluation.models import model_options
from evaluation.runner import run_devices
from evaluation.samples import Labels
from evaluation.world import World
from protocol.recipe import Recipe


@pytest.mark.parametrize("recommender", RECOMMENDERS)
def test_every_network_has_options(recommender: str) -> None:
    """Its own name, and intercepts for users only where labels are explicit."""
    implicit, explicit = (model_options(labels, 3, recommender) for labels in (Labels.IMPLICIT, Labels.EXPLICIT))
    assert implicit.recommender == explicit.recommender == recommender
    assert implicit.seed == explicit.seed == 3
    assert (implicit.user_intercepts, explicit.user_intercepts) == (False, True)


def test_another_network_goes_the_whole_way(world: World, tmp_path: Path) -> None:
    """PNN is trained, converted, matched by, classified by and tuned; its personal model is not h0."""
    other = build_world(world.split, tmp_path, labels=Labels.IMPLICIT, model="pnn", frozen=False)
    recipe = Recipe(steps=40, classifier_steps=30, match_samples=200, gate_standard_errors=100.0)
    row = run_devices(other, other.split.devices[:1], recipe, workers=1)[0]
    assert row.samples_matched == 200
    assert row.classifier_auc is not None
    assert row.activated
    assert row.scores["coda"].log_loss != row.scores["cloud"].log_loss
