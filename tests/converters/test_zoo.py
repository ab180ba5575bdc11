"""Every zoo model with every optimiser and every trainable set, in every installed runtime; and what the models say."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters.convert import ConvertOptions, convert
from converters.parity_report import ParityReport
from converters.runtimes import installed_runtimes
from converters.zoo.classifier import sample_classifier
from converters.zoo.din import MPDA, din
from converters.zoo.names import RECOMMENDERS
from converters.zoo.recommenders import build_recommender
from protocol.schema import FeatureSchema
from tests.converters.conftest import SCHEMA
from tests.converters.side_by_side import Futures, start
from tests.converters.zoo_cases import ALL, CHOSEN, MIXED, MODELS, SMALL, prove


@pytest.fixture(scope="module")
def proofs(pool: ProcessPoolExecutor, request: pytest.FixtureRequest) -> Futures[ParityReport]:
    """The parity of every case that was chosen."""
    return start(pool, request, test_a_zoo_model_trains_as_in_tensorflow.__name__, prove)


@pytest.mark.parametrize(("name", "optimizer", "trainable"), CHOSEN)
def test_a_zoo_model_trains_as_in_tensorflow(
    name: str, optimizer: str, trainable: str, proofs: Futures[ParityReport]
) -> None:
    """The parity gate passes: losses, weights and their changes over 50 steps."""
    parity = proofs[name, optimizer, trainable].result()
    assert parity.passed
    assert [runtime.runtime for runtime in parity.runtimes] == [runtime.name for runtime in installed_runtimes()]
    assert max(max(runtime.weight_errors.values()) for runtime in parity.runtimes) < 1e-4


def test_every_two_choices_meet() -> None:
    """What is proven leaves out no pair of model, optimiser and trainable set that there can be."""
    for pair in combinations(range(3), 2):
        proven, possible = ({tuple(case[place] for place in pair) for case in cases} for cases in (CHOSEN, ALL))
        assert proven == possible


@pytest.mark.parametrize("name", MODELS)
def test_a_zoo_model_takes_features_by_name_and_gives_a_logit(name: str) -> None:
    """One finite logit a sample, for any number of samples."""
    model = MODELS[name]()
    rng = np.random.default_rng(0)
    batch = {t.name: rng.integers(0, 3, (5, *t.shape[1:])).astype(t.dtype) for t in model.inputs}
    logit = np.asarray(model(batch)["logit"])
    assert logit.shape == (5,)
    assert np.isfinite(logit).all()


def test_the_pairs_of_deepfm_are_those_of_a_factorisation_machine() -> None:
    """Without its deep part and linear part, the logit is the sum of all pairs' inner products."""
    model = MODELS["deepfm"]()
    batch: dict[str, Any] = {f.name: np.ones(f.shape(2), f.dtype) for f in MIXED.features}
    joined = keras.Model(model.input, model.get_layer("joined").output)
    vectors = np.asarray(joined(batch)).reshape(2, len(MIXED.features), SMALL["embedding_dim"])
    pairs = [(vectors[:, i] * vectors[:, j]).sum(-1) for i in range(4) for j in range(i)]
    parts = keras.Model(model.input, [model.get_layer("linear").output, model.get_layer("score").output])
    rest = sum(np.asarray(part)[:, 0] for part in parts(batch))
    np.testing.assert_allclose(np.asarray(model(batch)["logit"]) - rest, sum(pairs), rtol=1e-4, atol=1e-6)


def test_din_comes_in_the_sizes_of_the_literature() -> None:
    """Embeddings of 9; attention 80-40-1; hidden layers 200-80 and a logit, where MPDA has two classes."""
    shapes = {variable.path: tuple(variable.shape) for variable in din(SCHEMA, **MPDA).trainable_variables}
    assert shapes["item_embedding/embeddings"] == (50, 9)
    parts = ("query/kernel", "key/bias", "key/kernel", "hidden_1/kernel", "score/kernel")
    attention = [shapes[f"liked_attention_{part}"] for part in parts]
    assert attention == [(9, 80), (9, 80), (9, 80), (80, 40), (40, 1)]
    assert [shapes[f"{name}/kernel"][1] for name in ("hidden_1", "hidden_2", "score")] == [200, 80, 1]


def test_the_attention_of_din_sees_query_key_and_their_product() -> None:
    """A matrix for each query says what one projection each of q, k and q * k says."""
    model = MODELS["din"]()
    batch = {f.name: np.random.default_rng(1).integers(1, 8, f.shape(4)).astype(f.dtype) for f in SCHEMA.features}
    query, hidden = model.get_layer("liked_attention_query"), model.get_layer("liked_attention_1")
    q, got = (np.asarray(part) for part in keras.Model(model.input, [query.input, hidden.output])(batch))
    keys = np.asarray(model.get_layer("item_embedding").get_weights()[0])[batch["liked"]]
    (of_query, bias), (of_product, of_key) = query.get_weights(), model.get_layer("liked_attention_key").get_weights()
    projected = keys @ of_key + (keys * q[:, None]) @ of_product + (q @ of_query + bias)[:, None]
    np.testing.assert_allclose(got, np.maximum(projected, 0), rtol=1e-4, atol=1e-6)


def test_padding_does_not_count() -> None:
    """A history's padding changes no output of DIN: the mean of one liked item is that item, wherever it stands."""
    model = MODELS["din"]()
    batch: dict[str, Any] = {f.name: np.zeros(f.shape(2), f.dtype) for f in SCHEMA.features}
    batch["item"][:] = 7
    batch["liked"][0, -1] = batch["liked"][1, 0] = 3
    outputs = model(batch)
    for value in outputs.values():
        np.testing.assert_allclose(np.asarray(value)[0], np.asarray(value)[1], rtol=1e-5)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_vectors_of_recommenders_have_length_one(name: str) -> None:
    """Matching compares user and item vectors by their angle; a user without history has none."""
    model = build_recommender(name, SCHEMA, 4)
    batch: dict[str, Any] = {f.name: np.ones(f.shape(3), f.dtype) for f in SCHEMA.features}
    batch["liked"][0] = 0
    outputs = model(batch)
    np.testing.assert_allclose(np.linalg.norm(outputs["user_vector"], axis=1), [0, 1, 1], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(outputs["item_vector"], axis=1), 1.0, rtol=1e-4)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_recommenders_train_in_slots(name: str, tmp_path: Path) -> None:
    """Every recommender of the zoo can have slots for its items, and has an item bias that starts from nothing."""
    model = build_recommender(name, SCHEMA, 4)
    conversion = convert(
        model, tmp_path / "slotted.tflite", ConvertOptions(batch_size=8, schema=SCHEMA, slots={"item": 20})
    )
    assert conversion.parity.passed
    assert conversion.rows["item"].values.shape[0] == 50
    assert not model.get_layer("item_bias").get_weights()[0].any()


def test_a_recommender_needs_a_history() -> None:
    """Without what a user liked there is no taste to match by; the error names the feature."""
    with pytest.raises(KeyError, match="liked"):
        build_recommender("lr", FeatureSchema(SCHEMA.features[:2]), 4)


def test_logistic_regression_trains_no_vectors() -> None:
    """Its vectors are of frozen rows: alike for users who like the same items, and no part of its logit."""
    model = build_recommender("lr", SCHEMA, 16)
    assert not any("_embedding/" in variable.path for variable in model.trainable_variables)
    batch: dict[str, Any] = {f.name: np.ones(f.shape(3), f.dtype) for f in SCHEMA.features}
    batch["liked"] = np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [11, 12, 13, 14, 15]], np.int32)
    users = np.asarray(model(batch)["user_vector"])
    assert users[0] @ users[1] == pytest.approx(1.0, abs=1e-4)
    assert users[0] @ users[2] < 0.9


def test_the_classifier_can_tell_tastes_apart() -> None:
    """It learns that a user likes one kind and not the other, which neither content nor outcome says alone."""
    rng = np.random.default_rng(0)
    content = rng.standard_normal((256, 4)).astype(np.float32)
    liked = rng.integers(0, 2, (256, 1)).astype(np.float32)
    local = ((content[:, :1] > 0) == (liked > 0)).astype(np.float32)
    keras.utils.set_random_seed(1)
    model = sample_classifier(4)
    model.compile(keras.optimizers.Adam(0.02), {"logit": keras.losses.BinaryCrossentropy(from_logits=True)})
    model.fit({"content": content, "outcome": liked}, {"logit": local[:, 0]}, epochs=25, verbose=0)
    for outcome in (0.0, 1.0):
        batch = {"content": content, "outcome": np.full((256, 1), outcome, np.float32)}
        says_local = np.asarray(model(batch)["logit"]) > 0
        assert np.mean(says_local == ((content[:, 0] > 0) == (outcome > 0))) > 0.9
