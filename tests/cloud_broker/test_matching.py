"""Matching: near samples by quota, never one's own, never twice, within the bounds asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_broker.errors import ConfigError
from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.byte_budget import encode_within
from cloud_broker.matching.matcher import Matcher, PoolView, RandomMatcher, quotas
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import MatchOptions
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.matching.vector_index import Allowed, best, ordered
from cloud_broker.pool.sample_pool import SamplePool
from protocol.batch_codec import decode_batch
from protocol.errors import MalformedMessageError
from protocol.messages import Query
from protocol.opinions import pack_opinions
from tests.cloud_broker.samples import SCHEMA, user_samples


def unit_vectors(samples: int, dimensions: int = 4, seed: int = 1) -> NDArray[np.float32]:
    """Random directions."""
    vectors = np.random.default_rng(seed).normal(size=(samples, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def query_of(centroids: NDArray[np.float32], weights: tuple[float, ...], max_samples: int = 10) -> Query:
    """A query with that profile."""
    raw = centroids.astype("<f2").tobytes()
    return Query("q", 1, "0" * 64, centroids.shape[1], raw, weights, max_samples, 1 << 20)


def view_of(vectors: NDArray[np.float32], contributors: list[int] | None = None) -> PoolView:
    """A pool in which every sample has its own content."""
    owners = np.zeros(len(vectors), np.int32) if contributors is None else np.array(contributors, np.int32)
    return PoolView(vectors, owners, np.arange(len(vectors), dtype=np.int64))


EVERY = pytest.mark.parametrize("kind", [ProfileMatcher, RandomMatcher, AgreementMatcher])


def test_one_centroid_gets_its_nearest_samples() -> None:
    """With one centroid the choice is the exact nearest, in order."""
    vectors = unit_vectors(500)
    centroid = unit_vectors(1, seed=2).astype(np.float16).astype(np.float32)
    expected = np.argsort(-(vectors @ centroid[0]), kind="stable")[:10]
    assert ProfileMatcher(view_of(vectors)).rank(query_of(centroid, (1.0,)), None).tolist() == expected.tolist()


def test_centroids_are_served_by_their_weights_in_every_beginning() -> None:
    """Three quarters of the samples come from the heavier centroid, in the first four as in all."""
    axes = np.eye(4, dtype=np.float32)
    vectors = np.repeat(axes, 50, axis=0)
    rows = ProfileMatcher(view_of(vectors)).rank(query_of(axes[:2], (0.75, 0.25), max_samples=40), None)
    assert [(rows[:n] < 50).sum() for n in (4, 20, 40)] == [3, 15, 30]


@settings(deadline=None, max_examples=80)
@given(
    samples=st.integers(1, 120) | st.integers(400, 1200),
    contents=st.integers(1, 40) | st.integers(400, 2000),
    wanted=st.integers(1, 60),
    asker=st.sampled_from([None, 0, 1]),
    allowed=st.sampled_from([1.0, 0.5, 0.02]),
    seed=st.integers(0, 99),
)
# Near ones are offered twice, not all of them in time.
@example(samples=900, contents=600, wanted=60, asker=0, allowed=1.0, seed=1)
def test_each_centroid_has_its_nearest_that_none_before_it_took(
    *, samples: int, contents: int, wanted: int, asker: int | None, allowed: float, seed: int
) -> None:
    """However often contents repeat: in the order of centroids, each takes the nearest of contents not yet taken."""
    rng = np.random.default_rng(seed)
    owners, keys = rng.integers(0, 3, samples).astype(np.int32), rng.integers(0, contents, samples)
    centroids = unit_vectors(4, seed=seed).astype(np.float16).astype(np.float32)
    weights = tuple(rng.dirichlet(np.ones(4)).tolist())
    may = rng.random(samples) < allowed
    view = PoolView(unit_vectors(samples), owners, keys, allowed=None if may.all() else Allowed(may))
    expected: dict[int, int] = {}
    for centroid, quota in zip(centroids, quotas(weights, wanted), strict=True):
        end = len(expected) + quota
        for row in np.argsort(-(view.vectors @ centroid), kind="stable").tolist():
            if len(expected) < end and owners[row] != asker and may[row]:
                expected.setdefault(keys[row], row)
    rows = ProfileMatcher(view).rank(query_of(centroids, weights, max_samples=wanted), asker)
    assert sorted(rows.tolist()) == sorted(expected.values())


@EVERY
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_every_matcher_promises(kind: type[Matcher], data: st.DataObject) -> None:
    """Distinct rows, none of the asker's, no equal content, as many as there are up to the bound, always the same."""
    samples, clusters = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    owners = rng.integers(0, 3, samples).astype(np.int32)
    keys = rng.integers(0, data.draw(st.integers(1, 80)), samples)
    items, labels = rng.integers(0, 9, samples).astype(np.int32), rng.integers(0, 2, samples).astype(np.float32)
    view = PoolView(unit_vectors(samples), owners, keys, labels=labels, opinions=Opinions(items, owners))
    weights = tuple(rng.dirichlet(np.ones(clusters)).tolist())
    query = query_of(unit_vectors(clusters, seed=3), weights, max_samples=data.draw(st.integers(1, 80)))
    if data.draw(st.booleans()):
        query = replace(query, opinions=pack_opinions(np.arange(1, 9, dtype=np.int32), np.tile([1.0, 0.0], 4)))
    asker = data.draw(st.sampled_from([None, 0, 1]))
    rows = kind(view).rank(query, asker)
    assert asker is None or asker not in owners[rows]
    assert len(set(keys[rows].tolist())) == len(rows)
    others = keys[owners != asker] if asker is not None else keys
    assert len(rows) == min(query.max_samples, len(set(others.tolist())))
    assert kind(view).rank(query, asker).tolist() == rows.tolist()


@EVERY
def test_an_empty_pool_gives_nothing(kind: type[Matcher]) -> None:
    """No samples is an answer, not an error."""
    empty = view_of(np.zeros((0, 4), np.float32))
    assert kind(empty).rank(query_of(unit_vectors(2), (0.5, 0.5)), None).tolist() == []


def test_near_duplicates_are_sent_once() -> None:
    """Of samples of one item and label that hardly differ the nearest alone is chosen; others of that item stay."""
    centre, apart = unit_vectors(2)
    near = centre + 1e-4 * unit_vectors(30, seed=5)
    vectors = np.concatenate([near, np.repeat(apart[np.newaxis], 3, axis=0)]).astype(np.float32)
    items = np.array([1] * 10 + [1] * 10 + [2] * 10 + [1, 1, 2], np.int32)
    labels = np.array([0] * 10 + [1] * 10 + [1] * 10 + [0, 1, 1], np.float32)
    view = replace(view_of(vectors), items=items, labels=labels)
    query = query_of(centre[np.newaxis], (1.0,), max_samples=33)
    all_rows = ProfileMatcher(view).rank(query, None)
    rows = ProfileMatcher(view, MatchOptions(k_anonymity=1, near_duplicate_similarity=0.999)).rank(query, None)
    assert len(all_rows) == 33
    assert sorted(zip(items[rows].tolist(), labels[rows].tolist(), strict=True)) == [
        (1, 0.0), (1, 0.0), (1, 1.0), (1, 1.0), (2, 1.0), (2, 1.0)
    ]  # fmt: skip
    first = {what: row for row in all_rows[::-1].tolist() if row < 30 for what in [(items[row], labels[row])]}
    assert set(rows[rows < 30].tolist()) == set(first.values())


@given(st.integers(0, 5), st.integers(0, 30), st.integers(0, 99))
def test_the_best_of_several_are_those_of_each(queries: int, found: int, seed: int) -> None:
    """What several find at once is for each what it would be alone, what is no row left out."""
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation(50)[:found] for _ in range(queries)], np.int64).reshape(queries, found)
    rows[rng.random(rows.shape) < 0.2] = -1
    scores = rng.integers(-3, 3, rows.shape).astype(np.float32)
    counts = rng.integers(0, 40, queries)
    for mine, theirs, count, got in zip(rows, scores, counts.tolist(), best(rows, scores, counts), strict=True):
        alone = ordered(mine[mine >= 0], theirs[mine >= 0], count)
        assert [one.tolist() for one in got] == [one.tolist() for one in alone]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_each_label_has_its_share(share: float) -> None:
    """Where the nearest are all of one label, the nearest of the other take the last places, as many as asked for."""
    vectors = np.repeat(np.eye(4, dtype=np.float32)[:2], 40, axis=0)
    view = replace(view_of(vectors), labels=np.repeat([1, 0], 40).astype(np.float32))
    matcher = ProfileMatcher(view, MatchOptions(k_anonymity=1, min_label_share=share))
    rows = matcher.rank(query_of(np.eye(4, dtype=np.float32)[:1], (1.0,), max_samples=10), None)
    assert (len(rows), int((rows >= 40).sum())) == (10, round(10 * share))
    assert matcher.rank(query_of(np.eye(4, dtype=np.float32)[:1], (1.0,), max_samples=80), None).size == 80


@EVERY
def test_what_is_held_back_is_never_chosen(kind: type[Matcher]) -> None:
    """Items that too few share and samples before the window stay, whichever matcher chooses."""
    items, times = np.arange(60, dtype=np.int32) % 3, np.arange(60)
    owners, labels = (np.arange(60) // 3 % 20 + 1).astype(np.int32), (np.arange(60) % 2).astype(np.float32)
    view = replace(
        view_of(unit_vectors(60), owners.tolist()),
        items=items,
        labels=labels,
        sharers=np.array([4, 5, 6], np.int32),
        time_s=times,
        since_s=20.0,
        opinions=Opinions(items, owners),
    )
    said = pack_opinions(np.array([1, 2], np.int32), np.array([1.0, 0.0], np.float32))
    query = replace(query_of(unit_vectors(1), (1.0,), max_samples=60), opinions=said)
    rows = kind(view, MatchOptions(k_anonymity=5)).rank(query, None)
    assert sorted(rows.tolist()) == [row for row in range(20, 60) if row % 3]


@pytest.mark.parametrize(
    "wrong", [{"k_anonymity": 0}, {"matcher": "best"}, {"min_label_share": 0.6}, {"recall": 1.0}, {"window_days": -1.0}]
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    """What makes no sense is an error with the option's name."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MatchOptions(**wrong)  # type: ignore[arg-type]


def test_a_profile_of_another_space_is_refused() -> None:
    """Centroids of another width than the pool's vectors are malformed."""
    with pytest.raises(MalformedMessageError, match="8 dimensions, the model's have 4"):
        ProfileMatcher(view_of(unit_vectors(5))).rank(query_of(unit_vectors(1, 8), (1.0,)), None)


def test_the_control_ignores_the_profile() -> None:
    """Random rows are spread over the whole pool."""
    axes = np.eye(4, dtype=np.float32)
    rows = RandomMatcher(view_of(np.repeat(axes, 50, axis=0))).rank(query_of(axes[:1], (1.0,), max_samples=100), None)
    assert all(10 < ((rows // 50) == part).sum() < 40 for part in range(4))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=16).filter(lambda w: sum(w) > 1e-3), st.integers(1, 10_000))
def test_quotas_sum_to_the_total_and_stay_near_the_shares(weights: list[float], total: int) -> None:
    """Whole numbers, none further than 1 from its share."""
    shares = tuple(weight / sum(weights) for weight in weights)
    found = quotas(shares, total)
    assert sum(found) == total
    assert all(abs(number - share * total) < 1 + 1e-6 for number, share in zip(found, shares, strict=True))


@pytest.mark.parametrize("max_bytes", [1, 300, 600, 1000, 1 << 20])
def test_encoded_samples_stay_within_the_bytes_asked_for(tmp_path: Path, max_bytes: int) -> None:
    """Distinct rows of those asked for, as many as fit; what is encoded decodes to those rows."""
    pool = SamplePool(tmp_path, SCHEMA)
    for user in range(10):
        pool.add(f"user-{user}", user_samples(user), "m")
    ranked = np.random.default_rng(1).permutation(len(pool))
    rows, payload = encode_within(pool.take, ranked, max_bytes)
    assert len(payload) <= max_bytes
    assert len(set(rows.tolist())) == len(rows)
    if max_bytes == 1:
        assert (len(rows), payload) == (0, b"")
        return
    assert len(decode_batch(payload, SCHEMA)) == len(rows) > 0
    if max_bytes == 1 << 20:
        assert len(rows) == len(pool)


def test_in_a_hurry_the_same_samples_go_out_in_more_bytes(tmp_path: Path) -> None:
    """Packed quickly they are as whole; where they would not fit so, they are packed as well as can be."""
    pool = SamplePool(tmp_path / "pool", SCHEMA)
    pool.add("ann", user_samples(1, 300), "import")
    ranked = np.arange(300, dtype=np.int64)[::-1]
    rows, packed = encode_within(pool.take, ranked, 1 << 20)
    quick_rows, quick = encode_within(pool.take, ranked, 1 << 20, quick=True)
    np.testing.assert_array_equal(quick_rows, rows)
    assert len(decode_batch(quick, SCHEMA)) == 300
    assert len(quick) > len(packed)
    assert encode_within(pool.take, ranked, len(packed), quick=True)[1] == packed
    assert encode_within(pool.take, ranked[:0], 10, quick=True)[1] == b""
    pool.close()
