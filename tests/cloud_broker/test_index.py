"""The index over a real pool and recommender: shared by workers, gone with its samples, ready after a restart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.inverted_file import InvertedFileIndex
from cloud_broker.matching.matcher import RandomMatcher
from cloud_broker.matching.options import MatchOptions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.pool.columns import FORGOTTEN
from cloud_broker.pool.sample_pool import SamplePool
from tests.cloud_broker.conftest import CONTRIBUTORS, model_and_index, query_for
from tests.cloud_broker.samples import ITEMS, user_samples


class World:
    """A published cloud, and as many workers over it as asked for."""

    def __init__(self, state_dir: Path) -> None:
        self.registry: Registry
        self.model: PublishedModel
        self.registry, self.model, first = model_and_index(state_dir)
        first.pool.close()
        self.folder = state_dir / "pool"

    def worker(self, **options: object) -> SampleIndex:
        """Another worker's index."""
        path = self.registry.blobs.path(self.model.recommender.sha256)
        return SampleIndex(
            SamplePool(self.folder),
            path,
            self.model.recommender.sha256,
            rows=self.registry.row_file(self.model),
            options=MatchOptions(**options),  # type: ignore[arg-type]
        )

    def rank(self, index: SampleIndex, user: int = 1, samples: int = 50, asker: str = "dev") -> np.ndarray:  # type: ignore[type-arg]
        """What a device like that user is matched with."""
        return index.rank(query_for(self.registry, self.model, user_samples(user), max_samples=samples), asker)


@pytest.fixture
def world(state_dir: Path) -> World:
    """A published cloud."""
    return World(state_dir)


SMALL = {"exact_below": 1000, "recall": 0.9}


@pytest.mark.parametrize("options", [{}, SMALL])
@pytest.mark.parametrize("with_index", [True, False])
def test_a_forgotten_contributor_is_gone_for_all_workers(
    world: World, options: dict[str, float], with_index: bool
) -> None:
    """Forgotten by a worker or a command, no worker matches its samples, and its vectors' bytes are in no file."""
    one, other = world.worker(**options), world.worker(**options)
    one.tidy()
    other.refresh()
    assert isinstance(other.engine, InvertedFileIndex) == bool(options)
    number = one.pool.contributor_number("user-1")
    assert number is not None
    matched = world.rank(other)
    assert number in other.pool.contributors[matched]
    row = int(matched[other.pool.contributors[matched] == number][0])
    secret = one.matcher().view.vectors[row].tobytes()
    assert any(secret in path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    assert (one if with_index else SamplePool(world.folder)).forget("user-1", "f1") == 60
    assert not any(secret in path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    again = world.rank(other, samples=5000)
    assert len(again)
    assert not np.isin(other.pool.contributors[again], [FORGOTTEN, number]).any()


def test_what_another_worker_took_in_is_matched(world: World) -> None:
    """Samples that one worker added are embedded by whoever refreshes first, and found by all."""
    one, other = world.worker(), world.worker()
    one.pool.add("new", user_samples(1, 40, seed=9), "m1")
    other.refresh()
    number = one.pool.contributor_number("new")
    for index in (one, other):
        assert number in index.pool.contributors[world.rank(index, samples=2000)]


def test_a_device_that_asked_before_it_gave_is_not_sent_its_own(world: World) -> None:
    """Whoever asked, with nothing in the pool, then gave something by another worker, and asks again."""
    one, other = world.worker(), world.worker()
    assert len(world.rank(other, asker="new"))
    one.pool.add("new", user_samples(1, 40, seed=9), "m1")
    other.refresh()
    number = other.pool.contributor_number("new")
    assert number is not None
    assert number in other.pool.contributors[world.rank(other, samples=2000)]
    for _ in range(2):
        assert number not in other.pool.contributors[world.rank(other, samples=2000, asker="new")]


def test_an_index_of_a_pool_forgotten_whole_answers_with_nothing(world: World) -> None:
    """A pool without samples is served, before and after it is opened again."""
    index = world.worker()
    for user in range(CONTRIBUTORS):
        index.forget(f"user-{user}", "f")
    assert len(world.rank(index)) == 0
    index.pool.close()
    reopened = world.worker()
    assert (len(reopened), len(world.rank(reopened))) == (0, 0)
    reopened.pool.add("new", user_samples(1), "m1")
    reopened.refresh()
    assert len(reopened) == 20


def test_no_more_is_ranked_than_is_ever_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that asks for everything does not have the whole pool ranked."""
    monkeypatch.setattr("cloud_broker.matching.index.MAX_SAMPLES", 30)
    assert len(world.rank(world.worker(), samples=1 << 62)) == 30


def test_a_restart_embeds_nothing_again(world: World) -> None:
    """Vectors are on disk: what was embedded before is not embedded again, and the answers are the same."""
    index = world.worker()
    before = world.rank(index)
    index.close()
    index.pool.close()
    told: list[tuple[int, int]] = []
    again = SampleIndex(
        SamplePool(world.folder),
        world.registry.blobs.path(world.model.recommender.sha256),
        world.model.recommender.sha256,
        rows=world.registry.row_file(world.model),
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(len(again), len(again))]
    assert np.array_equal(world.rank(again), before)


def test_the_inverted_file_takes_in_what_came_since(world: World) -> None:
    """Rows that came after it was made are found, before and after a new one is made; answers stay nearly the same."""
    exact, index = world.worker(), world.worker(**SMALL)
    index.tidy()
    index.pool.add("new", user_samples(1, 60, seed=9), "m1")
    for each in (exact, index):
        each.refresh()
    found, right = world.rank(index, samples=100), world.rank(exact, samples=100)
    assert np.isin(right, found).mean() > 0.9
    number = index.pool.contributor_number("new")
    assert number in index.pool.contributors[world.rank(index, samples=1000)]


def test_no_sample_leaves_unless_enough_contributors_share_its_item(world: World) -> None:
    """With k = 5 an item of four contributors is held back, until a fifth has it; then again once one is forgotten."""
    index = world.worker(k_anonymity=5)
    rare = ITEMS - 1

    def give(name: str) -> None:
        batch = user_samples(1, 5, seed=ord(name))
        batch.features["item"][:] = rare
        index.pool.add(name, batch, f"m-{name}")
        index.refresh()

    for user in range(CONTRIBUTORS):  # who has it by chance
        if rare in index.pool.columns.items(index.pool.contributors == user + 1):
            index.forget(f"user-{user}", "f")
    counts = []
    for name in ("a", "b", "c", "d", "e"):
        give(name)
        matched = world.rank(index, samples=5000)
        counts.append(int((index.pool.columns.items(matched) == rare).sum()))
    assert counts[:4] == [0, 0, 0, 0]
    assert counts[4] > 0
    index.forget("c", "f")
    assert (index.pool.columns.items(world.rank(index, samples=5000)) != rare).all()


def test_random_is_the_control(world: World) -> None:
    """The option gives the control instead, with what is held back held back."""
    index = world.worker(matcher="random", k_anonymity=5)
    assert isinstance(index.matcher(), RandomMatcher)
    assert len(world.rank(index)) == 50
