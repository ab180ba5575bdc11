"""A cloud that has trained and published once, copied for each test that changes it."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud_broker.config import CloudConfig
from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.vectors import Embedder
from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.options import ModelOptions
from cloud_broker.pool.sample_pool import Given, SamplePool
from protocol.messages import Query
from protocol.samples import SampleBatch
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.sharing import made_once
from tests.storage_fixtures import blob_place, own_postgres, place, postgres, s3

__all__ = ["blob_place", "own_postgres", "place", "postgres", "s3"]

CONTRIBUTORS = 30


@pytest.fixture(scope="session")
def published_state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A state folder with a pool and published models, and the events of publishing; not to be changed."""
    return made_once(tmp_path_factory, "published", _publish)


def _publish(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    from cloud_broker.models.publish import publish_models

    pool = SamplePool(folder / "pool", SCHEMA)
    pool.add_many(Given(f"user-{user}", user_samples(user, 60), "import") for user in range(CONTRIBUTORS))
    registry = Registry(folder)
    events: list[dict[str, Any]] = []
    publish_models(pool, registry, ModelOptions(epochs=4), events.append)
    registry.close()
    pool.close()
    return folder, events


@pytest.fixture
def state_dir(published_state: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(published_state[0], tmp_path / "state"))


@dataclass(frozen=True)
class Trained:
    """What a training published: bytes of the two files, and what it told."""

    recommender: bytes
    classifier: bytes
    events: list[dict[str, Any]]

    def publish(self, registry: Registry) -> PublishedModel:
        """Publish it as the newest model of another cloud with the same features."""
        return registry.publish(SCHEMA, self.recommender, self.classifier, {})


@pytest.fixture(scope="session")
def trained_again(
    published_state: tuple[Path, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Another model than the published one, by the job that `coda cloud train` runs; seconds of training, so once."""
    return made_once(tmp_path_factory, "again", lambda folder: _train_again(published_state[0], folder / "state"))


def _train_again(published: Path, folder: Path) -> Trained:
    from cloud_broker.workers.roles import train

    shutil.copytree(published, folder)
    events: list[dict[str, Any]] = []
    here = dict.fromkeys(("ca_file", "cert_file", "key_file", "state_dir"), folder)  # it speaks to nobody
    values: dict[str, Any] = {"fleet": "test", "host": "localhost", "port": 1, **here}
    config = CloudConfig(models=ModelOptions(recommender="lr", epochs=1, seed=2), **values)
    train(config, threading.Event(), events.append, again=True)
    registry = Registry(folder)
    (model, _), (before, ended_s) = registry.history(2)
    assert model.recommender != before.recommender
    assert ended_s == model.published_s
    recommender, classifier = (registry.blobs.get(ref.sha256) for ref in (model.recommender, model.classifier))
    trained = Trained(recommender, classifier, events)
    registry.close()
    return trained


def model_and_versions(state_dir: Path) -> tuple[Registry, PublishedModel, Versions]:
    """What a cloud opens from its folder."""
    registry = Registry(state_dir)
    versions = Versions(SamplePool(state_dir / "pool"), registry)
    return registry, versions.model, versions


def model_and_index(state_dir: Path) -> tuple[Registry, PublishedModel, SampleIndex]:
    """The same for the one model alone."""
    registry, model, versions = model_and_versions(state_dir)
    return registry, model, versions.newest


def query_for(
    registry: Registry, model: PublishedModel, batch: SampleBatch, query_id: str = "q1", max_samples: int = 50
) -> Query:
    """A device's query: one centroid, the mean of its samples' vectors."""
    path = registry.blobs.path(model.recommender.sha256)
    vectors = Embedder(path, rows=registry.row_file(model)).vectors(batch)
    raw = vectors.mean(axis=0).astype(np.float16).astype("<f2").tobytes()
    return Query(query_id, 1, model.recommender.sha256, vectors.shape[1], raw, (1.0,), max_samples, 1 << 18)
