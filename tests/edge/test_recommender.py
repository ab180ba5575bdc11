"""h0 with slots is h0 with its whole table: same logits, same tuning, personal models no larger than what changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from converters.convert import ConvertOptions, convert
from converters.zoo.din import din
from edge.errors import ModelFileError
from edge.learning.gate import gate
from edge.learning.model import Model
from edge.learning.personalise import personalise
from edge.learning.recommender import Personal, Recommender, latest_that_fit
from edge.learning.runtime import open_model
from edge.learning.trainer import Trainer
from edge.learning.tuning import tune
from protocol.recipe import Recipe
from protocol.rows import RowTable
from protocol.samples import SampleBatch, empty_batch
from tests.edge.samples import ITEMS, SCHEMA, samples

RECIPE = Recipe(steps=60, learning_rate=0.2, proximal=0.05, classifier_steps=60)
NOTHING = empty_batch(SCHEMA)


@dataclass(frozen=True)
class Rows:
    """A source that has the whole table."""

    table: RowTable

    def rows(self, version: str, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """As `edge.learning.recommender.RowSource` wants it."""
        assert version == self.table.description.version
        return self.table.values[ids]


@dataclass(frozen=True)
class Files:
    """One model, converted with its whole table and with slots for all of it or a third."""

    keras_model: keras.Model
    whole: Path
    slotted: dict[int, tuple[Path, RowTable]]

    def open_whole(self) -> Recommender:
        """With the table in the file."""
        return Recommender(open_model(self.whole))

    def open(self, slots: int) -> Recommender:
        """With so many slots."""
        path, rows = self.slotted[slots]
        return Recommender(open_model(path), rows.description, Rows(rows))


MANY, FEW = ITEMS + 4, 24


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Converted once."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("slotted")
    model = din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(8,))
    bias = np.linspace(-0.3, 0.3, ITEMS, dtype=np.float32)[:, np.newaxis]
    model.get_layer("item_bias").set_weights([bias])
    options = ConvertOptions(batch_size=16, schema=SCHEMA)
    slotted = {}
    for slots in (MANY, FEW):
        done = convert(model, folder / f"{slots}.tflite", replace(options, slots={"item": slots}))
        slotted[slots] = (done.path, done.rows["item"])
    return Files(model, convert(model, folder / "whole.tflite", options).path, slotted)


@pytest.mark.parametrize("slots", [MANY, FEW])
def test_h0s_logits_are_those_of_the_whole_table(files: Files, slots: int) -> None:
    """Keras says the same, whether or not all items fit at a time."""
    batch = samples(200)
    expected = files.keras_model(dict(batch.features), training=False)["logit"].numpy()
    assert files.open(slots).logits(batch) == pytest.approx(expected, abs=1e-5)
    assert len(files.open(slots).logits(NOTHING)) == 0


def test_tuning_through_slots_is_tuning_the_whole_table(files: Files) -> None:
    """Same samples, same steps, same pull: the same personal model on samples that neither saw."""
    local, matched, unseen = samples(60), samples(150, seed=2), samples(80, seed=9)
    logits = []
    for recommender in (files.open_whole(), files.open(MANY)):
        ready = recommender.prepare(local, matched)
        tuned = tune(ready.trainer, ready.local, ready.matched, np.ones(150, np.float32), RECIPE)
        logits.append(recommender.logits(unseen, ready.personal(tuned.weights)))
    whole, slotted = logits
    assert slotted == pytest.approx(whole, abs=1e-4)
    assert np.abs(whole - files.open_whole().logits(unseen)).max() > 0.1


def test_personalising_comes_to_the_same(files: Files, classifier: Trainer) -> None:
    """Classifier, gate and served model: every number as with the whole table."""
    outcomes = []
    for recommender in (files.open_whole(), files.open(MANY)):
        ready = recommender.prepare(samples(100), samples(150, seed=2))
        outcomes.append(personalise(ready.trainer, classifier, ready.local, ready.matched, RECIPE))
    whole, slotted = outcomes
    assert whole.decision.activate == slotted.decision.activate
    assert slotted.decision.log_loss_personal == pytest.approx(whole.decision.log_loss_personal, abs=1e-4)
    assert slotted.samples_kept == pytest.approx(whole.samples_kept, abs=1)


def _tuned(recommender: Recommender, local: SampleBatch, recipe: Recipe) -> tuple[Personal, Model]:
    ready = recommender.prepare(local, NOTHING)
    tuned = tune(ready.trainer, ready.local, ready.matched, np.zeros(0, np.float32), recipe)
    return ready.personal(tuned.weights), recommender.model


def test_a_personal_model_holds_only_rows_that_tuning_touched(files: Files) -> None:
    """Ids are those of the local items, and the head's weights have no table among them."""
    local = samples(3)
    personal, _ = _tuned(files.open(MANY), local, RECIPE)
    assert personal.rows is not None
    own = {int(n) for name in ("item", "liked", "disliked") for n in local.features[name].ravel()}
    assert 0 < len(personal.rows.ids) < ITEMS
    assert set(personal.rows.ids.tolist()) <= own | {0}
    assert personal.rows.values.shape[1] == 5
    assert not any("item" in name for name in personal.weights)


def test_a_personal_model_is_restored_for_any_samples(files: Files) -> None:
    """What the trainer holds after tuning, `weights` gives back, and `logits` uses for items it was not tuned on."""
    recommender, local = files.open(MANY), samples(40)
    ready = recommender.prepare(local, NOTHING)
    tuned = tune(ready.trainer, ready.local, ready.matched, np.zeros(0, np.float32), RECIPE)
    expected = ready.trainer.logits(ready.local.features)
    personal = ready.personal(tuned.weights)
    for name, value in ready.weights(personal).items():
        assert (value == tuned.weights[name]).all(), name
    assert recommender.logits(local, personal) == pytest.approx(expected, abs=1e-6)
    assert files.open(FEW).table is not None
    other = recommender.prepare(local.take(slice(0, 20)), NOTHING)
    assert gate(other.trainer, other.weights(personal), other.local, RECIPE).log_loss_personal is not None


def test_rows_of_another_model_are_refused(files: Files) -> None:
    """A personal model with rows of another version, or with none, never reaches the model."""
    recommender = files.open(MANY)
    personal, _ = _tuned(recommender, samples(20), RECIPE)
    foreign = files.open(FEW)
    for other in (foreign, files.open_whole()):
        with pytest.raises(ModelFileError, match="do not belong together"):
            other.logits(samples(5), personal)
    ready = foreign.prepare(samples(1), NOTHING)
    with pytest.raises(ModelFileError, match="do not belong together"):
        ready.weights(personal)
    with pytest.raises(ModelFileError, match="do not belong together"):
        recommender.logits(samples(5), Personal(personal.weights))


def test_a_file_and_a_task_that_disagree_about_rows_are_refused(files: Files) -> None:
    """Slots without a table, a table without slots, slots of another number, nowhere to get rows from."""
    path, rows = files.slotted[MANY]
    for model, table in (
        (open_model(path), None),
        (open_model(files.whole), rows.description),
        (open_model(path), replace(rows.description, slots=FEW)),
    ):
        with pytest.raises(ModelFileError, match="takes rows"):
            Recommender(model, table, Rows(rows))
    with pytest.raises(ModelFileError, match="nowhere to get them from"):
        Recommender(open_model(path), rows.description)


def test_matched_samples_that_do_not_fit_are_dropped_and_counted(files: Files) -> None:
    """Local samples come first; of the matched, the first in rank. Tuning goes on with those."""
    recommender, matched = files.open(FEW), samples(100, seed=3)
    local = samples(1)
    ready = recommender.prepare(local, matched)
    assert len(ready.local) == 1
    assert 0 < len(ready.matched) < 100
    assert ready.dropped == 100 - len(ready.matched)
    tune(ready.trainer, ready.local, ready.matched, np.ones(len(ready.matched), np.float32), RECIPE)
    assert files.open(MANY).prepare(local, matched).dropped == 0


def test_of_local_samples_the_latest_fit(files: Files) -> None:
    """Those with the latest items are kept, in the order they came."""
    batch, table = samples(30), files.slotted[FEW][1].description
    kept = latest_that_fit(batch, table)
    assert 1 <= len(kept) < 30
    assert kept.time_s[-1] == batch.time_s[-1]
    assert (np.diff(kept.time_s) > 0).all()
    assert latest_that_fit(batch, None) is batch
    assert len(files.open(FEW).prepare(kept, NOTHING).local) == len(kept)
