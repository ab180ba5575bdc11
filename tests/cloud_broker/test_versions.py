"""Models side by side: each answers its own queries, and has or loses what the pool does, as long as it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_broker.errors import ConfigError, StorageError, UnknownModelError
from cloud_broker.matching import index as index_module
from cloud_broker.matching import versions as versions_module
from cloud_broker.matching.derived import embedded_rows
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.vectors import Embedder
from cloud_broker.matching.versions import Versions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.pool.guards import DAY_S
from cloud_broker.pool.sample_pool import SamplePool
from cloud_broker.telling import StoppedEarlyError
from tests.cloud_broker.conftest import Trained, query_for
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.cloud_broker.test_blobs import Clock


class Fleet:
    """A cloud with one model that is served, and another to be published."""

    def __init__(self, state_dir: Path, trained: Trained) -> None:
        self.clock = Clock()
        self.clock.now_s = 1e9
        self.folder = state_dir / "pool"
        self.registry = Registry(state_dir, clock=self.clock)
        self.trained = trained
        self.old = self.registry.history(1)[0][0]
        self._pools: list[SamplePool] = []

    def open(self, **options: Any) -> Versions:
        """What one process has; ``options`` as `MatchOptions` has them."""
        self._pools.append(SamplePool(self.folder))
        return Versions(self._pools[-1], self.registry, MatchOptions(**options), clock=self.clock)

    def publish(self) -> PublishedModel:
        """Have the other model be the newest."""
        return self.trained.publish(self.registry)

    def rank(self, versions: Versions, model: PublishedModel, samples: int = 50) -> NDArray[np.int64]:
        """What a device that has that model is matched with."""
        return versions.rank(query_for(self.registry, model, user_samples(1), max_samples=samples), "dev")

    def close(self) -> None:
        """Close all that was opened."""
        for pool in self._pools:
            pool.close()
        self.registry.close()


@pytest.fixture
def fleet(state_dir: Path, trained_again: Trained) -> Iterator[Fleet]:
    """A cloud that has published once."""
    fleet = Fleet(state_dir, trained_again)
    yield fleet
    fleet.close()


def nearest(fleet: Fleet, versions: Versions, model: PublishedModel) -> NDArray[np.int64]:
    """What that model alone finds, by the vectors that it makes now."""
    path = fleet.registry.blobs.path(model.recommender.sha256)
    vectors = Embedder(path).vectors(versions.pool.batch())
    query = query_for(fleet.registry, model, user_samples(1))
    scores = vectors @ query.profile()[0]
    return np.argsort(-scores, kind="stable")[:300]


def test_each_query_is_answered_by_the_model_that_made_it(fleet: Fleet) -> None:
    """Before the newer model is ready the old one is served alone; then both, each from its own vectors."""
    versions = fleet.open()
    before = fleet.rank(versions, fleet.old)
    new = fleet.publish()
    versions.look()
    assert (versions.model, versions.served) == (fleet.old, (fleet.old.recommender.sha256,))
    with pytest.raises(UnknownModelError, match=f"serves {fleet.old.recommender.sha256[:12]}: sync the task"):
        fleet.rank(versions, new)
    assert versions.embedded_share() == 0
    assert versions.prepare()
    assert (versions.model, len(versions.served), versions.embedded_share()) == (new, 2, 1)
    assert fleet.rank(versions, fleet.old).tolist() == before.tolist()
    for model in (fleet.old, new):
        assert np.isin(fleet.rank(versions, model), nearest(fleet, versions, model)).all()
    assert set(fleet.rank(versions, new).tolist()) != set(before.tolist())
    assert not versions.prepare()


def test_the_canary_is_answered_for_and_given_to_nobody_by_itself(fleet: Fleet) -> None:
    """A candidate is not embedded, the canary is, behind the live model; rolled back, that is given again."""
    versions, trained = fleet.open(), fleet.trained
    new = fleet.registry.publish(SCHEMA, trained.recommender, trained.classifier, {}, stage="candidate")
    assert not versions.prepare()
    fleet.registry.stages.promote(new.version)
    assert versions.prepare()
    assert (versions.model, len(versions.served)) == (fleet.old, 2)
    (fleet.folder / "derived" / fleet.old.recommender.sha256[:16] / "ready").unlink()
    assert fleet.open().model == fleet.old  # though the canary alone was ready
    assert len(fleet.rank(versions, new))
    fleet.registry.stages.promote(new.version)
    versions.look()
    assert versions.model == new
    fleet.registry.stages.roll_back()
    versions.look()
    assert versions.model == fleet.old


def test_queries_are_answered_while_the_pool_is_embedded_anew(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of it the old model answers as before; killed there, it goes on with what is left."""
    monkeypatch.setattr(index_module, "_ROWS_A_STEP", 500)
    versions = fleet.open()
    before = fleet.rank(versions, fleet.old).tolist()
    new = fleet.publish()

    def stop_in_the_middle(done: int, total: int) -> None:
        assert (done, total) == (500, len(versions))
        assert fleet.rank(versions, fleet.old).tolist() == before
        raise StoppedEarlyError

    with pytest.raises(StoppedEarlyError):
        versions.prepare(stop_in_the_middle)
    assert versions.embedded_share() == 500 / len(versions)
    again, told = fleet.open(), list[int]()
    assert again.model == fleet.old
    assert again.prepare(lambda done, _total: told.append(done))
    assert told == [1000, 1500, 1800]
    assert again.model == new


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"other bytes"), Path.unlink])
def test_a_model_whose_file_is_damaged_keeps_no_other_from_being_served(
    fleet: Fleet, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a canary nor a live model that cannot be used ends the cloud, nor is one used that is not what it was."""
    new = fleet.publish()
    assert fleet.open().prepare()
    damage(fleet.registry.blobs.path(new.recommender.sha256))
    versions = fleet.open()
    assert (versions.model, versions.served) == (fleet.old, (fleet.old.recommender.sha256,))
    versions.look()
    assert [record.message.split(":")[0] for record in caplog.records] == ["model 2 is not served"]
    damage(fleet.registry.blobs.path(fleet.old.recommender.sha256))
    with pytest.raises(StorageError, match="blob"):
        fleet.open()
    versions.look()
    assert versions.model == fleet.old


def test_another_process_takes_a_model_up_when_it_is_asked_for(fleet: Fleet) -> None:
    """A device may have the newest task before every worker has looked: the one that it asks looks then."""
    tender, worker = fleet.open(), fleet.open()
    new = fleet.publish()
    tender.prepare()
    assert worker.model == fleet.old
    assert fleet.rank(worker, new).tolist() == fleet.rank(tender, new).tolist()
    assert worker.model == new


def test_what_is_given_or_forgotten_is_so_for_every_model(fleet: Fleet) -> None:
    """New samples are found by both models; a forgotten one's vectors are in no file of either."""
    versions = fleet.open()
    new = fleet.publish()
    versions.prepare()
    versions.pool.add("new", user_samples(1, 40, seed=9), "m1")
    versions.refresh()
    number = versions.pool.contributor_number("new")
    secrets = []
    for model in (fleet.old, new):
        matched = fleet.rank(versions, model, 5000)
        row = int(matched[versions.pool.contributors[matched] == number][0])
        secrets.append(versions.of(model.recommender.sha256).matcher().view.vectors[row].tobytes())
    assert all(_holds(fleet.folder, secret) for secret in secrets)
    assert versions.pool.forget("new", "f1") == 40
    assert not any(_holds(fleet.folder, secret) for secret in secrets)


def _holds(folder: Path, secret: bytes) -> bool:
    return any(secret in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_model_is_kept_for_its_days_and_then_removed(fleet: Fleet) -> None:
    """Its devices are told to sync when its time is over; its vectors are removed when every process has let go."""
    versions, other = fleet.open(keep_models_days=3), fleet.open(keep_models_days=3)
    new = fleet.publish()
    versions.prepare()
    for _ in range(2):
        other.look()
        assert len(fleet.rank(other, fleet.old)) == 50
        fleet.clock.now_s += 1.5 * DAY_S
    other.look()
    with pytest.raises(UnknownModelError, match=new.recommender.sha256[:12]):
        fleet.rank(other, fleet.old)
    versions.prepare()
    assert embedded_rows(fleet.folder, fleet.old.recommender.sha256) == 1800
    fleet.clock.now_s += versions_module._LET_GO_S
    versions.prepare()
    assert [path.name for path in (fleet.folder / "derived").iterdir()] == [new.recommender.sha256[:16]]
    other.pool.add("new", user_samples(1), "m1")
    other.refresh()
    other.close()
    versions.close()
    assert other.pool.forget("new", "f1") == 20


def test_a_models_copy_on_a_server_goes_with_it(fleet: Fleet, tmp_path: Path) -> None:
    """What is erased of a model that nobody serves is not asked for there; its collection is deleted."""
    pytest.importorskip("milvus_lite", reason="needs `pip install 'coda-edge[milvus]'`")
    from pymilvus import MilvusClient

    uri = str(tmp_path / "milvus.db")
    versions = fleet.open(keep_models=1, milvus_uri=uri)
    new = fleet.publish()
    versions.prepare()
    assert versions.served == (new.recommender.sha256,)
    assert versions.pool.forget("user-1", "f1") == 60
    fleet.clock.now_s += versions_module._LET_GO_S
    versions.prepare()
    versions.close()
    client = MilvusClient(uri)
    assert client.list_collections() == [f"coda_{new.recommender.sha256[:16]}"]
    client.close()


@pytest.mark.parametrize("options", [{"keep_models": 1}, {"keep_models_days": 0}])
def test_where_one_model_is_kept_the_old_one_serves_until_the_new_one_is_ready(
    fleet: Fleet, options: dict[str, float]
) -> None:
    """Nobody is without an answer in between, also after a restart."""
    fleet.open(**options)
    new = fleet.publish()
    versions = fleet.open(**options)
    assert len(fleet.rank(versions, fleet.old)) == 50
    versions.prepare()
    assert versions.served == (new.recommender.sha256,)


def test_a_model_published_twice_is_embedded_once(fleet: Fleet) -> None:
    """The same files under a newer version are ready at once, and served once."""
    versions = fleet.open()
    recommender, classifier = (
        fleet.registry.blobs.get(ref.sha256) for ref in (fleet.old.recommender, fleet.old.classifier)
    )
    newer = fleet.registry.publish(SCHEMA, recommender, classifier, {})
    assert not versions.prepare()
    versions.look()
    assert (versions.model, len(versions.served)) == (newer, 1)


def test_without_a_model_it_says_what_to_do(fleet: Fleet, tmp_path: Path) -> None:
    """A pool for which nothing was published cannot be served."""
    empty = Registry(tmp_path / "other")
    pool = SamplePool(Path(shutil.copytree(fleet.folder, tmp_path / "pool")))
    with pytest.raises(StorageError, match="coda cloud train"):
        Versions(pool, empty)
    pool.close()
    empty.close()


@pytest.mark.parametrize("wrong", [{"keep_models": 0}, {"keep_models_days": -1.0}])
def test_bounds_that_keep_nothing_are_refused(wrong: dict[str, float]) -> None:
    """The newest model is always kept."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MatchOptions(**wrong)  # type: ignore[arg-type]
