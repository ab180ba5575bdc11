"""Matching by agreement: those who like what the device does, where both sides allow it, and never too few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_broker.config import CloudConfig
from cloud_broker.errors import ConfigError
from cloud_broker.matching import index as index_module
from cloud_broker.matching.agreement import AgreementMatcher, agreement
from cloud_broker.matching.index import SampleIndex
from cloud_broker.matching.matcher import PoolView
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.pool.sample_pool import SamplePool
from protocol.messages import Query
from protocol.opinions import pack_opinions
from protocol.recipe import Recipe
from tests.cloud_broker.conftest import model_and_index, query_for
from tests.cloud_broker.samples import SCHEMA, user_samples
from tests.cloud_broker.test_matching import query_of, unit_vectors

ITEMS = np.arange(1, 21, dtype=np.int32)
SHARED, OTHER = 20, 10  # items that everybody has said something of, and samples beside
KINDRED = 6


def taste(kindred: bool) -> NDArray[np.float32]:
    """Likes of the shared items: one half of them, or the other."""
    return np.where((ITEMS <= 10) == kindred, np.float32(1), np.float32(0))


def pool_view(contributors: int = 12) -> PoolView:
    """Contributors 1 to 6 like what the device likes, the others the opposite; all have samples of other items, too."""
    owners = np.repeat(np.arange(1, contributors + 1, dtype=np.int32), SHARED + OTHER)
    items = np.tile(np.concatenate([ITEMS, np.arange(100, 100 + OTHER)]), contributors).astype(np.int32)
    labels = [np.concatenate([taste(owner <= KINDRED), np.ones(OTHER)]) for owner in range(1, contributors + 1)]
    sharers = np.full(200, contributors, np.int32)
    return PoolView(
        unit_vectors(len(owners)),
        owners,
        np.arange(len(owners)),
        items=items,
        labels=np.concatenate(labels).astype(np.float32),
        sharers=sharers,
        opinions=Opinions(items, owners),
    )


def asking(max_samples: int = 60, items: NDArray[np.int32] = ITEMS) -> Query:
    """A device's query, with its opinions of some of the shared items."""
    said = pack_opinions(items, taste(True)[: len(items)])
    return replace(query_of(unit_vectors(1, seed=2), (1.0,), max_samples), opinions=said)


K5 = MatchOptions(k_anonymity=5)


def test_samples_come_from_those_who_agree() -> None:
    """All of them, each with about as many, the nearest of each first; and in every beginning."""
    view = pool_view()
    rows = AgreementMatcher(view, K5).rank(asking(), None)
    assert set(view.contributors[rows].tolist()) == set(range(1, KINDRED + 1))
    assert np.bincount(view.contributors[rows])[1:].tolist() == [10] * KINDRED
    assert set(view.contributors[rows[:KINDRED]].tolist()) == set(range(1, KINDRED + 1))
    near = view.vectors @ asking().profile()[0]
    for owner in range(1, KINDRED + 1):
        mine = rows[view.contributors[rows] == owner]
        assert set(mine.tolist()) == set(
            np.flatnonzero(view.contributors == owner)[np.argsort(-near[view.contributors == owner])[:10]].tolist()
        )


def test_what_is_missing_is_matched_by_profile() -> None:
    """Where those who agree have too few samples, the nearest of all others follow."""
    view = pool_view()
    rows = AgreementMatcher(view, K5).rank(asking(250), None)
    assert len(rows) == 250
    agreed, rest = rows[:180], rows[180:]
    assert view.contributors[agreed].max() <= KINDRED < view.contributors[rest].min()
    by_profile = ProfileMatcher(view, K5).rank(asking(360), None)
    assert rest.tolist() == [row for row in by_profile.tolist() if view.contributors[row] > KINDRED][:70]


@pytest.mark.parametrize(
    "change",
    [
        lambda view: (replace(view, contributors=np.where(view.contributors > 2, view.contributors, -1)), asking()),
        lambda view: (replace(view, agreeing=np.arange(13) > 2), asking()),
        lambda view: (replace(view, sharers=np.where(np.arange(200) > 20, 12, 4).astype(np.int32)), asking()),
        lambda view: (view, replace(asking(), opinions=None)),
        lambda view: (view, replace(asking(), opinions=b"")),
    ],
    ids=["forgotten", "not allowed", "rare items", "nothing said", "nothing to say"],
)  # fmt: skip
def test_where_too_few_agree_samples_are_matched_by_profile(change: object) -> None:
    """Fewer than k who agree, allow it and share items that k share: nobody's samples are singled out."""
    view, query = change(pool_view())  # type: ignore[operator]
    assert AgreementMatcher(view, K5).rank(query, None).tolist() == ProfileMatcher(view, K5).rank(query, None).tolist()


def test_nobody_gives_more_than_a_share() -> None:
    """With k = 5 no contributor gives more than a fifth, however much it agrees."""
    view = pool_view()
    assert view.labels is not None
    labels = view.labels.copy()
    for owner in range(2, KINDRED + 1):  # the first agrees most by far
        labels[(view.contributors == owner) & (view.items == owner)] = 0
        labels[(view.contributors == owner) & (view.items == owner + 1)] = 0
    rows = AgreementMatcher(replace(view, labels=labels), K5).rank(asking(50), None)
    counts = np.bincount(view.contributors[rows], minlength=KINDRED + 1)[1 : KINDRED + 1]
    assert counts.max() == counts[0] == 10


def test_each_label_has_its_share() -> None:
    """Where those who agree mostly like, what they or others dislike takes the last places, as many as asked for."""
    view = pool_view()
    assert view.labels is not None
    options = MatchOptions(k_anonymity=5, min_label_share=0.5)
    rows = AgreementMatcher(view, options).rank(asking(60), None)
    assert (len(rows), int((view.labels[rows] > 0).sum())) == (60, 30)
    plain = AgreementMatcher(view, K5).rank(asking(60), None)
    assert (view.labels[plain] > 0).sum() > 30


def test_the_askers_own_samples_are_left_out() -> None:
    """A contributor that asks agrees most with itself, and is not its own neighbour."""
    view = pool_view()
    rows = AgreementMatcher(view, K5).rank(asking(), 3)
    assert set(view.contributors[rows[:50]].tolist()) == {1, 2, 4, 5, 6}
    assert 3 not in view.contributors[rows]


def test_agreement_weighs_what_is_shared_and_how_usual_it_is() -> None:
    """Three kindred opinions count for more than one; liking what all like says nothing; opposites are below 0."""
    places = np.array([0, 1, 2, 0, 0, 1, 2, 3, 3, 3, 3, 3])
    owners = np.array([0, 0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7], np.int32)
    mine = np.array([1, 0, 1, 1], np.bool_)[places]
    theirs = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1], np.bool_)
    found = agreement(owners, mine, theirs, places)
    assert 1 > found[0] > found[1] > found[3] > 0 > found[2] > -1
    assert agreement(owners[:0], mine[:0], theirs[:0], places[:0]).tolist() == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 4)), max_size=40), st.sets(st.integers(0, 12), max_size=5))
def test_the_table_knows_every_rows_item_and_contributor(rows: list[tuple[int, int]], asked: set[int]) -> None:
    """Of each item everybody's last row, of each contributor all rows; nobody's rows are not in it."""
    items, owners = (np.array([row[which] for row in rows], np.int32) for which in (0, 1))
    table = Opinions(items, owners)
    wanted = np.array(sorted(asked), np.int32)
    last = {(item, owner): row for row, (item, owner) in enumerate(rows) if owner >= 0}
    about = [(row, place) for place, item in enumerate(wanted.tolist()) for row in _of(last, item)]
    assert _pairs(table.of_items(wanted)) == about
    by_owner = [(row, p) for p, owner in enumerate(wanted.tolist()) for row in np.flatnonzero(owners == owner).tolist()]
    assert _pairs(table.of_contributors(wanted)) == by_owner


def _of(last: dict[tuple[int, int], int], item: int) -> list[int]:
    return [row for (about, _), row in sorted(last.items()) if about == item]


def _pairs(found: tuple[NDArray[np.int64], NDArray[np.int64]]) -> list[tuple[int, int]]:
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


@pytest.fixture
def index(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> SampleIndex:
    """A real pool's index that matches by agreement, and looks at every refresh who allows it."""
    monkeypatch.setattr(index_module, "_LOOK_S", 0.0)
    registry, model, first = model_and_index(state_dir)
    pool = SamplePool(state_dir / "pool")
    path = registry.blobs.path(model.recommender.sha256)
    options = MatchOptions(matcher="agreement")
    first.pool.close()
    return SampleIndex(pool, path, model.recommender.sha256, rows=registry.row_file(model), options=options)


def test_a_contributors_last_word_counts(index: SampleIndex, state_dir: Path) -> None:
    """Off by default; on for all that it gave; off again with its next contribution, or when it is forgotten."""
    registry, model, other = model_and_index(state_dir)
    other.pool.close()
    mine = user_samples(1, 60, seed=5)
    said = pack_opinions(mine.features["item"], mine.label)
    query = replace(query_for(registry, model, mine, max_samples=100), opinions=said)
    plain = index.rank(replace(query, opinions=None), "dev").tolist()
    pool = index.pool

    def ranked() -> list[int]:
        index.refresh()
        rows: list[int] = index.rank(query, "dev").tolist()
        return rows

    assert ranked() == plain
    willing = range(18)  # six of them, of the device's own taste: one more than k
    pool.allow_agreement([f"user-{user}" for user in willing], True)
    agreed = ranked()
    alike = {pool.contributor_number(f"user-{user}") for user in willing if user % 3 == 1}
    assert agreed != plain
    assert pool.agreeing().sum() == 18
    assert set(pool.contributors[agreed[:6]].tolist()) == alike
    for user in range(3):
        assert pool.contribute(f"user-{user}", user_samples(user, 5, seed=9), "later") == 5
    assert pool.forget("user-4", "f") == 60
    assert pool.agreeing().sum() == 14
    assert ranked() == index.rank(replace(query, opinions=None), "dev").tolist()
    pool.close()
    registry.close()


def test_opinions_are_asked_for_where_they_are_used(tmp_path: Path) -> None:
    """A configuration that asks for what it does not use, or uses what it does not ask for, is refused."""
    values = {"fleet": "f", "host": "h", "port": 1, "state_dir": tmp_path}
    files = {name: tmp_path / name for name in ("ca_file", "cert_file", "key_file")}
    by_agreement, recipe = MatchOptions(matcher="agreement"), Recipe(opinions=100)
    CloudConfig(**values, **files, matching=by_agreement, recipe=recipe)  # type: ignore[arg-type]
    for wrong in ({"matching": by_agreement}, {"recipe": recipe}):
        with pytest.raises(ConfigError, match="go together"):
            CloudConfig(**values, **files, **wrong)  # type: ignore[arg-type]
    assert SCHEMA.item is not None
    assert SCHEMA.item.name == "item"
