"""A file with slots does what the model with its whole table does, and does not grow with the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from converters.convert import Conversion, ConvertOptions, convert
from converters.errors import ConversionError
from converters.inspect import inspect_file
from converters.runtimes import Runtime, installed_runtimes
from converters.zoo.din import din
from protocol.rows import rows_version
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema
from protocol.slots import SlotMap
from tests.converters.conftest import SCHEMA

SLOTS = 20
OPTIONS = ConvertOptions(batch_size=8, schema=SCHEMA, slots={"item": SLOTS})
WEIGHTS = {"item_embedding_embeddings": 4, "item_bias_embeddings": 1}
both_runtimes = pytest.mark.parametrize("runtime", installed_runtimes(), ids=lambda runtime: str(runtime.name))


def small_din(schema: FeatureSchema = SCHEMA) -> Any:
    """A recommender whose every row differs, the biases' too."""
    keras.utils.set_random_seed(4)
    model = din(schema, embedding_dim=4, attention_units=(8,), hidden_units=(8, 4))
    bias = model.get_layer("item_bias")
    bias.set_weights([np.linspace(-1, 1, bias.input_dim, dtype=np.float32)[:, np.newaxis]])
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    """The model that is converted."""
    return small_din()


@pytest.fixture(scope="module")
def converted(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Conversion]:
    """That model with slots for its items, by optimiser and trainable set; each converted once."""
    folder = tmp_path_factory.mktemp("slots")

    @cache
    def conversion(optimizer: str, trainable: str) -> Conversion:
        return convert(
            model,
            folder / f"{optimizer}-{trainable}.tflite",
            replace(OPTIONS, optimizer=optimizer, trainable=trainable),
        )

    return conversion


@pytest.fixture(scope="module")
def file(converted: Callable[..., Conversion]) -> Conversion:
    """As it is converted by default."""
    return converted(OPTIONS.optimizer, OPTIONS.trainable)


def few_items(samples: int) -> SampleBatch:
    """Samples with no more than 15 items, from all over the catalogue."""
    rng = np.random.default_rng(5)
    items = rng.choice(np.arange(1, 50), 15, replace=False).astype(np.int32)
    features = {
        f.name: (rng.choice(items, f.shape(samples)) if f.table == "item" else rng.integers(0, 8, f.shape(samples)))
        for f in SCHEMA.features
    }
    columns = {name: column.astype(np.int32) for name, column in features.items()}
    columns["liked"][:, 0] = 0
    return SampleBatch(SCHEMA, columns, np.ones(samples, np.float32), np.arange(samples, dtype=np.int64))


@pytest.mark.parametrize(
    ("optimizer", "trainable"), [("sgd", "all"), ("adam", "all"), ("sgd", "head"), ("adam", "embeddings")]
)
def test_parity_holds_whatever_trains(converted: Callable[..., Conversion], optimizer: str, trainable: str) -> None:
    """With the same rows set, every runtime trains as TensorFlow does, with builtin operations only."""
    done = converted(optimizer, trainable)
    assert [r.runtime for r in done.parity.runtimes] == [r.name for r in installed_runtimes()]
    assert done.parity.passed
    assert inspect_file(done.path).foreign_ops == ()


@both_runtimes
def test_logits_are_those_of_the_whole_table(runtime: Runtime, model: Any, file: Conversion) -> None:
    """Samples rewritten to slots, and the rows of their items set, give Keras' own logits and vectors."""
    batch, rows = few_items(9), file.rows["item"]
    slots = SlotMap(SCHEMA, rows.description)
    assert slots.admit(batch).all()
    interpreter = runtime.open(file.path)
    interpreter.get_signature_runner("set_rows")(**slots.arrays(rows.values[slots.ids]))
    expected = model(dict(batch.features), training=False)
    seen = slots.remap(batch).features
    got = {**interpreter.get_signature_runner("infer")(**seen), **interpreter.get_signature_runner("embed")(**seen)}
    for name, value in expected.items():
        assert got[name] == pytest.approx(value.numpy(), abs=1e-5), name


@both_runtimes
def test_rows_come_back_as_they_were_set(runtime: Runtime, file: Conversion) -> None:
    """Before any are set they are zeros; afterwards they are what was set, also among the weights."""
    interpreter = runtime.open(file.path)
    get = interpreter.get_signature_runner("get_rows")
    assert {name: value.shape for name, value in get().items()} == {n: (SLOTS, w) for n, w in WEIGHTS.items()}
    assert not any(value.any() for value in get().values())
    rng = np.random.default_rng(6)
    rows = {name: rng.random((SLOTS, width), np.float32) for name, width in WEIGHTS.items()}
    interpreter.get_signature_runner("set_rows")(**rows)
    weights = interpreter.get_signature_runner("get_weights")()
    for name, value in rows.items():
        assert (get()[name] == value).all()
        assert (weights[name] == value).all()


@both_runtimes
def test_the_pull_is_toward_the_rows_that_were_set(runtime: Runtime, file: Conversion) -> None:
    """Rows that no sample touches, moved away from those set, go all the way back when the pull is 1."""
    interpreter = runtime.open(file.path)
    rows = {name: np.full((SLOTS, width), 0.5, np.float32) for name, width in WEIGHTS.items()}
    interpreter.get_signature_runner("set_rows")(**rows)
    weights = dict(interpreter.get_signature_runner("get_weights")())
    weights["item_bias_embeddings"] = np.full((SLOTS, 1), 9.0, np.float32)
    interpreter.get_signature_runner("set_weights")(**weights)
    features = {f.name: np.zeros(f.shape(8), np.int32) for f in SCHEMA.features}
    half = {name: np.full(8, 0.5, np.float32) for name in ("label", "weight")}
    hyper = {"learning_rate": np.array(0.1, np.float32), "proximal": np.array(10.0, np.float32)}
    interpreter.get_signature_runner("train")(**features, **half, **hyper)
    after = interpreter.get_signature_runner("get_weights")()["item_bias_embeddings"]
    assert after[1:] == pytest.approx(0.5, abs=1e-5)


def test_the_file_does_not_grow_with_the_catalogue_nor_with_the_slots(
    tmp_path: Path, converted: Callable[..., Conversion]
) -> None:
    """A hundredfold of both: the same bytes but for a few, also those of an optimiser's accumulators."""
    features = tuple(replace(f, vocabulary=5000) if f.table == "item" else f for f in SCHEMA.features)
    schema = FeatureSchema(features)
    options = replace(OPTIONS, schema=schema, slots={"item": 100 * SLOTS}, optimizer="adam")
    large = convert(small_din(schema), tmp_path / "large.tflite", options)
    assert large.rows["item"].values.shape == (5000, 5)
    assert abs(large.size_bytes - converted("adam", "all").size_bytes) < 100


def test_rows_are_the_models_and_bound_to_the_file(model: Any, file: Conversion) -> None:
    """One row an id joins the weights in order; the version names rows and file."""
    rows = file.rows["item"]
    assert {c.weight: c.width for c in rows.description.columns} == WEIGHTS
    joined = [np.asarray(model.get_layer(name).embeddings) for name in ("item_embedding", "item_bias")]
    assert (rows.values == np.concatenate(joined, axis=1)).all()
    assert rows.description.version == rows_version(rows.values, file.sha256)
    assert rows.description.version != rows_version(rows.values, "0" * 64)
    assert rows.description.version != rows_version(rows.values + 1, file.sha256)


def test_without_slots_nothing_changes(din_file: Conversion) -> None:
    """No rows leave the file and no signature asks for them."""
    assert din_file.rows == {}
    assert "set_rows" not in {signature.name for signature in inspect_file(din_file.path).signatures}


@pytest.mark.parametrize(
    ("slots", "schema", "complaint"),
    [
        ({"item": SLOTS}, None, "give the schema too"),
        ({"brand": SLOTS}, SCHEMA, "the schema lacks"),
        ({"item": 11}, SCHEMA, "between 12 and 8192"),
        ({"item": 8193}, SCHEMA, "between 12 and 8192"),
    ],
)
def test_slots_that_cannot_be_are_refused(
    model: Any, tmp_path: Path, slots: dict[str, int], schema: FeatureSchema | None, complaint: str
) -> None:
    """The error says what the slots lack, and nothing is written."""
    with pytest.raises(ConversionError, match=complaint):
        convert(model, tmp_path / "no.tflite", ConvertOptions(schema=schema, slots=slots))
    assert not (tmp_path / "no.tflite").exists()


def test_a_table_that_no_layer_or_an_odd_one_looks_up_is_refused(tmp_path: Path) -> None:
    """A model without an Embedding for the items, and one whose Embedding has other rows than the schema."""
    item = keras.Input((), dtype="int32", name="item")
    number = keras.ops.expand_dims(keras.ops.cast(item, "float32"), 1)
    plain = keras.Model({"item": item}, keras.layers.Dense(1)(number))
    options = ConvertOptions(schema=SCHEMA, slots={"item": SLOTS})
    with pytest.raises(ConversionError, match="has no Embedding for ids of item"):
        convert(plain, tmp_path / "no.tflite", options)
    odd = keras.Model({"item": item}, keras.layers.Embedding(70, 1, name="odd")(item))
    with pytest.raises(ConversionError, match="layer odd has 70 rows for the 50 ids of item"):
        convert(odd, tmp_path / "no.tflite", options)
