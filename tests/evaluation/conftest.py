"""Shared by the evaluation's tests: one small world, trained and converted once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.building import build_world
from evaluation.samples import Labels
from evaluation.split import Protocol, split_interactions
from evaluation.synthetic import generate_synthetic
from evaluation.world import World
from tests.sharing import made_once

DATA = generate_synthetic(users=40, items=100, seed=3).interactions


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A cloud with its models and its pool."""
    split = split_interactions(DATA, Labels.IMPLICIT, Protocol.NEW)

    def build(folder: Path) -> Path:
        return build_world(split, folder, labels=Labels.IMPLICIT).folder

    return World(made_once(tmp_path_factory, "world", build), split)
