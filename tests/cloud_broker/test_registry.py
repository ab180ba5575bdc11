"""Published models: which is live, what came before, and how each came to be."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cloud_broker.errors import ModelStageError
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.storage.place import Place
from tests.cloud_broker.samples import SCHEMA
from tests.cloud_broker.test_blobs import Clock


def test_the_newest_model_is_served_with_its_lineage(place: Place) -> None:
    """Publishing again supersedes; versions rise; everything survives a restart."""
    registry = Registry(place)
    assert registry.latest() is None
    registry.publish(SCHEMA, b"first", b"g", {"data": "old"})
    second = registry.publish(SCHEMA, b"second", b"g", {"data": "new", "metrics": {"auc": 0.8}})
    registry.close()
    found = Registry(place).latest()
    assert found == second
    assert (found.version, found.schema, found.lineage["metrics"]) == (2, SCHEMA, {"auc": 0.8})


def test_the_history_says_when_a_model_was_superseded(place: Place) -> None:
    """The newest first, as many as asked for, each with the moment at which the next one was published."""
    clock = Clock()
    registry = Registry(place, clock=clock)
    assert registry.history(3) == []
    published = []
    for number in range(3):
        clock.now_s = 1000.0 + number
        published.append(registry.publish(SCHEMA, b"h0 %d" % number, b"g", {}))
    assert registry.history(2) == [(published[2], None), (published[1], 1002.0)]
    registry.close()


class Published:
    """A registry with models, over a clock that rises by one whenever it is looked at."""

    def __init__(self, place: Place, models: int) -> None:
        self.now_s = 0.0
        self.registry = Registry(place, clock=self._tick)
        for number in range(models):
            self.publish(number)

    def publish(self, number: int, **options: Any) -> PublishedModel:
        """Another model."""
        return self.registry.publish(SCHEMA, b"h%d" % number, b"c%d" % number, {}, **options)

    @property
    def live(self) -> int:
        """The version that is live."""
        model = self.registry.latest()
        assert model is not None
        return model.version

    def stages(self, version: int) -> list[str]:
        """Every stage that a model came to."""
        return [change.stage for change in self.registry.stages.of(version)]

    def _tick(self) -> float:
        self.now_s += 1
        return self.now_s


def test_a_candidate_becomes_the_canary_then_live(place: Place) -> None:
    """Devices keep the live model meanwhile; the one that it takes the place of is retired; all of it is accounted."""
    book = Published(place, 1)
    assert book.publish(1, stage="candidate").lineage == {"parent": 1}
    assert (book.live, book.registry.canary()) == (1, None)
    assert book.registry.stages.promote(2) == "canary"
    canary = book.registry.canary()
    assert canary is not None
    assert (book.live, canary.version) == (1, 2)
    assert book.registry.stages.promote(2, reason="the canaries do well") == "live"
    assert (book.live, book.registry.canary()) == (2, None)
    assert book.stages(1) == ["live", "retired"]
    assert book.stages(2) == ["candidate", "canary", "live"]
    assert [change.reason for change in book.registry.stages.of(2)][-1] == "the canaries do well"
    assert {version: change.stage for version, change in book.registry.stages.now().items()} == {
        1: "retired",
        2: "live",
    }
    assert book.registry.versions() == [2, 1]


def test_there_is_one_canary(place: Place) -> None:
    """Another sends it back; a canary that is retired leaves none."""
    book = Published(place, 1)
    for number in (1, 2):
        book.publish(number, stage="candidate")
        book.registry.stages.promote(number + 1)
    assert book.stages(2) == ["candidate", "canary", "candidate"]
    book.registry.stages.retire(3, "it harms")
    assert book.registry.canary() is None


def test_rolling_back_goes_back_step_by_step(place: Place) -> None:
    """Said twice it goes back twice; what was rolled back is not gone back to; a later model goes on from there."""
    book = Published(place, 3)
    assert book.registry.stages.roll_back("it harms") == 2
    assert [book.live, *book.stages(3)] == [2, "live", "retired"]
    book.publish(3)
    assert (book.live, book.registry.find(4).lineage["parent"]) == (4, 2)
    assert [book.registry.stages.roll_back() for _ in range(2)] == [2, 1]
    with pytest.raises(ModelStageError, match="nothing to roll back to"):
        book.registry.stages.roll_back()
    assert book.live == 1
    assert [model.version for model, _ in book.registry.history(9)] == [1, 2, 4, 3]
    assert [ended_s is None for _, ended_s in book.registry.history(2)] == [True, False]


def test_what_cannot_be_is_refused(place: Place) -> None:
    """The live model cannot be retired, one that is not there not be promoted, none to where it is."""
    book = Published(place, 2)
    stages = book.registry.stages
    for act, told in (
        (lambda: stages.retire(2), "model 2 is live: promote another, or roll back"),
        (lambda: stages.promote(2, "canary"), "model 2 is live"),
        (lambda: stages.promote(2, "live"), "model 2 is live already"),
        (lambda: stages.promote(1), "model 1 is retired: say to which stage"),
        (lambda: stages.retire(1), "retired already"),
        (lambda: stages.promote(9), "no model 9: see `coda cloud models list`"),
        (lambda: book.registry.find(9), "no model 9"),
    ):
        with pytest.raises(ModelStageError, match=told):
            act()
    assert stages.promote(1, "live") == "live"
    assert book.live == 1


def test_the_brokers_copies_of_models_that_ended_are_named(place: Place) -> None:
    """Those of the live model and of the canary stay."""
    book = Published(place, 3)
    superseded = {ref.sha256 for ref in book.registry.superseded(1e9)}
    assert superseded == {hashlib.sha256(data).hexdigest() for data in (b"h0", b"c0", b"h1", b"c1")}
    book.registry.stages.promote(1, "canary")
    assert {ref.sha256 for ref in book.registry.superseded(1e9)} == {
        hashlib.sha256(data).hexdigest() for data in (b"h1", b"c1")
    }
    assert book.registry.superseded(0.5) == []


def test_promotions_at_once_leave_one_model_live(place: Place) -> None:
    """Whoever comes second finds what the first did."""
    book = Published(place, 1)
    for number in range(1, 5):
        book.publish(number, stage="candidate")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda version: book.registry.stages.promote(version, "live"), range(2, 6)))
    now = book.registry.stages.now()
    assert sorted(change.stage for change in now.values()) == ["live", *["retired"] * 4]
    assert now[book.live].stage == "live"
