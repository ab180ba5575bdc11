"""The training loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.convert import ConvertOptions, convert
from converters.zoo.din import din
from edge.learning.metrics import log_loss
from edge.learning.model import CHUNK_SAMPLES
from edge.learning.runtime import load_runtime, open_model
from edge.learning.sampling import Group, MixedSampler
from edge.learning.trainer import BLOCK_STEPS, Trainer, sigmoid
from tests.edge.conftest import ModelFiles
from tests.edge.samples import SCHEMA, samples


def _sampler(count: int = 120, seed: int = 0) -> MixedSampler:
    batch = samples(count)
    columns = {**batch.features, "label": batch.label}
    return MixedSampler(columns, [Group(np.arange(count), 1.0)], np.random.default_rng(seed))


def _losses_by_runner(path: Path, runtime: str, steps: int) -> list[float]:
    """What the runtime's own signature runner makes of the sampler's batches."""
    train = load_runtime(runtime).interpreter(model_path=str(path), num_threads=1).get_signature_runner("train")
    batch_size, sampler, losses = train.get_input_details()["label"]["shape"][0], _sampler(), []
    for start in range(0, steps, BLOCK_STEPS):
        for rows in sampler.draw(min(BLOCK_STEPS, steps - start), batch_size):
            inputs = {name: column[rows] for name, column in sampler.columns.items()}
            inputs["weight"] = np.ones(batch_size, np.float32)
            inputs["learning_rate"], inputs["proximal"] = np.array(0.1, np.float32), np.array(0.01, np.float32)
            losses.append(float(train(**inputs)["loss"]))
    return losses


def test_fit_equals_bare_steps(model_files: ModelFiles, runtime: str) -> None:
    """The lean loop gives the losses of the runtime's signature runner on batches taken by hand, across blocks."""
    steps = BLOCK_STEPS + 3
    trainer = Trainer(open_model(model_files.recommender, runtime=runtime))
    losses = trainer.fit(_sampler(), steps, 0.1, 0.01)
    expected = _losses_by_runner(model_files.recommender, runtime, steps)
    assert losses.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_file_whose_train_is_not_its_first_graph_trains_as_well(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of earlier converters are in this order; their steps go through the signature's runner."""
    monkeypatch.setattr("converters.compact.fixed_sizes_first", lambda model: None)
    model = din(SCHEMA, embedding_dim=4, attention_units=(4,), hidden_units=(8,))
    path = convert(model, tmp_path / "earlier.tflite", ConvertOptions(batch_size=8, schema=SCHEMA)).path
    losses = Trainer(open_model(path, runtime=runtime)).fit(_sampler(), 5, 0.1, 0.01)
    assert losses.tolist() == pytest.approx(_losses_by_runner(path, runtime, 5), abs=1e-6)


def test_training_learns(recommender: Trainer) -> None:
    """Log-loss on the samples falls well below that of a coin."""
    batch = samples(120)
    recommender.fit(_sampler(), 400, 0.5)
    assert log_loss(recommender.logits(batch.features), batch.label) < 0.55


def test_reset_and_restore(recommender: Trainer) -> None:
    """`reset` gives back the file's weights, `restore` a snapshot's, bit by bit."""
    features = samples(30).features
    first = recommender.logits(features)
    recommender.fit(_sampler(), 20, 0.5)
    tuned, snapshot = recommender.logits(features), recommender.snapshot()
    recommender.reset()
    assert (recommender.logits(features) == first).all()
    recommender.restore(snapshot)
    assert (recommender.logits(features) == tuned).all()
    assert (tuned != first).any()


def test_the_pull_holds_weights_near_the_files(recommender: Trainer) -> None:
    """A strong proximal pull leaves less change than none."""

    def drift(proximal: float) -> float:
        recommender.reset()
        start = recommender.snapshot()
        recommender.fit(_sampler(), 100, 0.2, proximal)
        return sum(float(np.abs(value - start[name]).sum()) for name, value in recommender.snapshot().items())

    assert drift(2.0) < 0.5 * drift(0.0)


@pytest.mark.parametrize("count", [0, 1, CHUNK_SAMPLES - 1, CHUNK_SAMPLES, CHUNK_SAMPLES + 1, 2 * CHUNK_SAMPLES + 5])
def test_prediction_in_chunks_is_prediction(recommender: Trainer, count: int) -> None:
    """Any number of samples gives one probability each, the same as one by one."""
    features = samples(count).features
    probabilities = recommender.predict(features)
    assert probabilities.shape == (count,)
    if count:
        last = recommender.predict({name: column[-1:] for name, column in features.items()})
        assert probabilities[-1:] == pytest.approx(last, abs=1e-6)
        assert ((probabilities > 0) & (probabilities < 1)).all()


def test_progress_is_told(recommender: Trainer) -> None:
    """Before each block and at the end, so that a caller can show it, or stop."""
    told: list[tuple[int, int]] = []
    recommender.fit(_sampler(), BLOCK_STEPS + 1, 0.1, on_progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [0, BLOCK_STEPS, BLOCK_STEPS + 1]
    assert {total for _, total in told} == {BLOCK_STEPS + 1}


def test_sigmoid_does_not_overflow() -> None:
    """Extreme logits give 0 and 1 without a warning."""
    assert sigmoid(np.array([-1e9, 0, 1e9], np.float32)).tolist() == [0.0, 0.5, 1.0]
