"""Training and publishing: it learns, stops in time, repeats itself, and what is published is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cloud_broker.errors import ConfigError, StorageError, TrainingError
from cloud_broker.matching.vectors import Embedder
from cloud_broker.models.lineage import digest_of
from cloud_broker.models.publish import judging_samples, latest_share, start_from_item_rates, train_recommender
from cloud_broker.models.registry import Registry
from cloud_broker.models.training import EpochResult, log_loss, predict, train_global
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import SamplePool
from converters.zoo.din import din
from converters.zoo.lr import lr
from protocol.samples import SampleBatch, concatenate
from protocol.schema import FeatureSchema
from protocol.vectors import sample_vectors
from tests.cloud_broker.conftest import CONTRIBUTORS, model_and_index
from tests.cloud_broker.samples import SCHEMA, user_samples


def _data() -> tuple[SampleBatch, SampleBatch]:
    """Samples to train on and to judge by, of different users."""
    return (
        concatenate([user_samples(user, 60) for user in range(20)]),
        concatenate([user_samples(user, 60) for user in range(20, 30)]),
    )


def _model(seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(8,))


def test_training_learns_and_keeps_the_best_epoch() -> None:
    """Validation log-loss falls well below that of a constant, and the model ends with the least of them."""
    batch, validation = _data()
    model, seen = _model(), list[EpochResult]()
    result = train_global(
        model, batch, validation, epochs=8, batch_size=32, learning_rate=0.02, on_progress=seen.append
    )
    losses = [epoch.validation_log_loss for epoch in result.history]
    assert seen == list(result.history)
    assert min(losses) < 0.5
    assert result.chosen_epoch == int(np.argmin(losses)) + 1
    assert log_loss(model, validation) == pytest.approx(min(losses), abs=1e-6)


def test_it_stops_when_validation_gets_worse() -> None:
    """Labels that cannot be predicted are overfitted at once; it ends after the patience, at an early epoch."""
    batch, validation = _data()
    noise = np.random.default_rng(1).integers(0, 2, len(batch)).astype(np.float32)
    noisy = SampleBatch(SCHEMA, batch.features, noise, batch.time_s)
    result = train_global(_model(), noisy, validation, epochs=30, batch_size=16, learning_rate=0.05, patience=2)
    assert len(result.history) == result.chosen_epoch + 2 < 30


def test_the_same_seed_gives_the_same_model() -> None:
    """Two runs agree in every logit; another seed does not."""
    batch, validation = _data()
    logits = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(1)
        model = lr(SCHEMA)
        train_global(model, batch, validation, epochs=2, seed=seed)
        logits.append(predict(model, validation))
    assert np.array_equal(logits[0], logits[1])
    assert not np.allclose(logits[0], logits[2])


def test_nothing_to_train_on_is_an_error() -> None:
    """Neither an empty pool nor an empty validation part is trained with."""
    batch, validation = _data()
    for pair in ((batch.take(slice(0)), validation), (batch, validation.take(slice(0)))):
        with pytest.raises(TrainingError, match="both are needed"):
            train_global(_model(), *pair)


def test_a_diverging_loss_is_an_error() -> None:
    """A loss that is not finite ends the training with advice."""
    batch, validation = _data()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train_global(_model(), batch, validation, epochs=50, learning_rate=1e30, patience=50)


def test_a_pool_of_other_features_is_an_error(tmp_path: Path) -> None:
    """The recommender says which feature it misses."""
    schema = FeatureSchema(SCHEMA.features[:2])
    source = user_samples(1, 60)
    pool = SamplePool(tmp_path, schema)
    pool.add(
        "ann",
        SampleBatch(schema, {n: source.features[n] for n in ("item", "genres")}, source.label, source.time_s),
        "m",
    )
    with pytest.raises(TrainingError, match="'liked'"):
        train_recommender(pool, ModelOptions(), lambda _event: None)


def test_user_intercepts_take_up_what_users_differ_by() -> None:
    """Where one user likes all and another nothing, training with intercepts leaves the model in between."""
    batch, validation = _data()
    owner = np.repeat(np.arange(20), 60)
    by_user = SampleBatch(SCHEMA, batch.features, (owner % 2).astype(np.float32), batch.time_s)
    losses = []
    for known in (None, owner):
        result = train_global(_model(), by_user, validation, epochs=4, batch_size=32, learning_rate=0.02, owner=known)
        losses.append(result.history[-1].train_log_loss)
    assert losses[1] < 0.8 * losses[0]


def test_item_biases_start_from_the_items_own_rates() -> None:
    """The log-odds of the smoothed rate; an item without samples starts from the overall rate."""
    batch, _ = _data()
    item = np.where(np.arange(len(batch)) % 2 == 0, 1, 2).astype(np.int32)
    known = SampleBatch(SCHEMA, {**batch.features, "item": item}, (item == 1).astype(np.float32), batch.time_s)
    model = _model()
    start_from_item_rates(model, known, smoothing=5.0)
    bias = model.get_layer("item_bias").get_weights()[0][:, 0]
    assert bias[1] == pytest.approx(np.log((600 + 2.5) / 2.5), rel=1e-4)
    assert bias[2] == pytest.approx(-bias[1], rel=1e-4)
    assert bias[3] == pytest.approx(0.0, abs=1e-6)


def test_whole_contributors_judge_where_there_are_enough() -> None:
    """Of 40 contributors 5% judge with all their samples, or one at least; of three, each one's latest samples do."""
    owner = np.repeat(np.arange(40, dtype=np.int32), 20)
    judged = judging_samples(owner, np.arange(800), ModelOptions())
    assert sorted(np.bincount(owner[judged], minlength=40).tolist()) == [0] * 38 + [20, 20]
    one = judging_samples(owner, np.arange(800), ModelOptions(validation_share=0.001))
    assert int(one.sum()) == 20
    few = judging_samples(owner[:60], np.arange(60), ModelOptions())
    assert np.flatnonzero(few).tolist() == [19, 39, 59]


def test_the_latest_share_is_each_contributors_own() -> None:
    """The newest samples of every contributor are marked, the number rounded down."""
    contributors = np.array([2, 1, 2, 1, 1, 2, 1, 3], np.int32)
    time_s = np.array([9, 4, 7, 2, 3, 8, 1, 5], np.int64)
    marked = latest_share(contributors, time_s, 0.5)
    assert np.flatnonzero(marked).tolist() == [0, 1, 4]


def test_publishing_tells_and_records_how_models_came_to_be(
    published_state: tuple[Path, list[dict[str, Any]]],
) -> None:
    """Events follow the work; lineage names data, code, metrics and a passed parity report of every file."""
    folder, events = published_state
    assert [event["event"] for event in events[-3:]] == ["training", "converted", "converted"]
    model = Registry(folder).latest()
    assert model is not None
    assert model.lineage["data"] == {
        "samples": CONTRIBUTORS * 60,
        "contributors": CONTRIBUTORS,
        "schema": SCHEMA.digest,
        "digest": digest_of(SamplePool(folder / "pool").living()[0]),
    }
    assert model.lineage["parent"] is None
    assert set(model.lineage["code"]) == {"version", "commit"}
    assert model.lineage["metrics"]["history"][-1]["validation_log_loss"] == events[-3]["validation_log_loss"]
    assert all(model.lineage["parity"][name]["passed"] for name in ("recommender", "classifier"))


def test_the_clouds_vectors_are_the_files(state_dir: Path) -> None:
    """Vectors in chunks equal the file's `embed` signature called at once."""
    registry, model, index = model_and_index(state_dir)
    from converters.runtimes import installed_runtimes

    path = registry.blobs.path(model.recommender.sha256)
    batch = index.pool.batch()
    found = installed_runtimes()[-1].open(path).get_signature_runner("embed")(**batch.features)
    expected = sample_vectors(found["user_vector"], found["item_vector"])
    assert np.allclose(Embedder(path).vectors(batch), expected, atol=1e-5)


def test_a_file_that_cannot_embed_is_an_error(state_dir: Path, tmp_path: Path) -> None:
    """Neither garbage nor the classifier is taken for a recommender."""
    registry, model, _ = model_and_index(state_dir)
    (tmp_path / "garbage").write_bytes(b"not a model")
    for path in (tmp_path / "garbage", registry.blobs.path(model.classifier.sha256)):
        with pytest.raises(StorageError, match="not a recommender"):
            Embedder(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"recommender": "svd"},
        {"trainable": "some"},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"validation_share": 1},
    ],
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ModelOptions(**wrong)
