"""Rounds with a model whose file holds slots: the rows come over the wire, and only what tuning touched is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.learning.recommender import Recommender
from edge.learning.runtime import file_sha256, open_model
from protocol.messages import BlobRef, Task
from protocol.recipe import Recipe
from tests.edge.conftest import SLOTS, ModelFiles
from tests.edge.samples import SCHEMA, samples
from tests.end_to_end.conftest import Device, record_of

pytestmark = pytest.mark.broker

RECIPE = Recipe(steps=300, learning_rate=0.2, classifier_steps=200, match_samples=500)
SLOW = Recipe(steps=8_000, learning_rate=0.01, classifier_steps=4_000, match_samples=500)

MakeDevice = Callable[..., Device]


def test_a_round_with_slots(cloud: Any, device: MakeDevice, slotted_files: ModelFiles) -> None:
    """The device brings its items' shards and the matched samples' rows, and drops what has no slot."""
    one = device("rows-1")
    one.add(samples(5, seed=4))
    one.add(samples(40))
    with cloud(RECIPE, models=slotted_files) as service:
        record = record_of(one.run().finish())
        served = [event for event in service.events if event["event"] == "rows"]
    assert record.outcome.decision == "activated", record.outcome.reason
    assert len(served) == 1
    assert record.outcome.metrics["matched_samples_without_slots"] is not None
    dropped = record.outcome.metrics["local_samples_without_slots"]
    assert dropped is not None
    assert record.outcome.samples_local + dropped == 45
    with one.store() as store:
        serving = store.rounds.serving()
        assert serving is not None
        assert serving.personal is not None
        assert serving.personal.rows is not None
        assert slotted_files.rows is not None
        assert serving.personal.rows.version == slotted_files.rows.description.version
        assert 0 < len(serving.personal.rows.ids) <= SLOTS
        model = open_model(store.blobs.path(serving.model_sha256))
        recommender = Recommender(model, slotted_files.rows.description, store.rows)
        unlike = np.abs(recommender.logits(samples(5)) - recommender.logits(samples(5), serving.personal))
        assert unlike.max() > 0.01


@pytest.mark.parametrize("phase", ["fetch", "tune"])
def test_rows_are_not_asked_for_again_after_a_kill(
    cloud: Any, device: MakeDevice, slotted_files: ModelFiles, phase: str
) -> None:
    """What had come is on disk: the round goes on with it."""
    one = device(f"rows-kill-{phase}")
    one.add(samples(40))
    with cloud(SLOW, models=slotted_files) as service:
        first = one.run()
        first.events(lambda event: (event["event"], event.get("phase")) == ("phase", phase))
        first.kill()
        record = record_of(one.run().finish())
        served = [event for event in service.events if event["event"] == "rows"]
    assert record.outcome.decision in ("activated", "kept-h0")
    assert len(served) == 1


def test_another_round_asks_only_for_what_is_new(cloud: Any, device: MakeDevice, slotted_files: ModelFiles) -> None:
    """Rows stay while their model does."""
    one = device("rows-twice")
    one.add(samples(40))
    with cloud(RECIPE, models=slotted_files) as service:
        one.run().finish()
    with cloud(Recipe(steps=50, learning_rate=0.2, classifier_steps=50), models=slotted_files) as service:
        record_of(one.run().finish())
        assert not [event for event in service.events if event["event"] == "rows"]


def test_rows_of_another_version_end_the_round(cloud: Any, device: MakeDevice, slotted_files: ModelFiles) -> None:
    """The cloud has published other rows since the task: it refuses, and the device reports that it gave up."""
    one = device("rows-gone")
    one.add(samples(40))
    files = [slotted_files.recommender, slotted_files.classifier]
    recommender, classifier = (BlobRef(file_sha256(file), file.stat().st_size) for file in files)
    assert slotted_files.rows is not None
    rows = replace(slotted_files.rows.description, version="f" * 64)
    with one.store() as store:
        store.rounds.begin(Task(1, SCHEMA.to_dict(), RECIPE.to_dict(), recommender, classifier, rows), "sync")
    with cloud(RECIPE, models=slotted_files):
        record = record_of(one.run().finish())
    assert record.outcome.decision == "abandoned"
    assert "unknown-model" in record.outcome.reason


def test_a_damaged_row_ends_the_round_with_its_reason(
    cloud: Any, device: MakeDevice, slotted_files: ModelFiles
) -> None:
    """Rows that vanish from the disk between phases are named; nothing is made up in their place."""
    one = device("rows-lost")
    one.add(samples(40))
    with cloud(SLOW, models=slotted_files):
        first = one.run()
        first.events(lambda event: (event["event"], event.get("phase")) == ("phase", "tune"))
        first.kill()
        with closing(sqlite3.connect(one.config.state_dir / "device.db")) as database:
            database.execute("DELETE FROM table_rows WHERE id = 0")
            database.commit()
        record = record_of(one.run().finish())
    assert record.outcome.decision == "abandoned"
    assert "are not here: [0]" in record.outcome.reason
