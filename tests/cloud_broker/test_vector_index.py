"""What every engine promises: the same tests for exact search, the inverted file and Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching import inverted_build
from cloud_broker.matching.inverted_current import CURRENT, ENDINGS, discard_older, read_current
from cloud_broker.matching.inverted_file import InvertedFileIndex
from cloud_broker.matching.packed_lists import PackedLists
from cloud_broker.matching.paging import touched
from cloud_broker.matching.vector_index import Allowed, ExactIndex, VectorIndex, ordered
from tests.cloud_broker.test_matching import unit_vectors

ROWS = 600


def _times(rows: int) -> NDArray[np.int64]:
    """When rows happened: in no order."""
    return np.random.default_rng(5).permutation(rows).astype(np.int64)


class Growing:
    """Vectors that others see grow and change in place, as mapped ones do."""

    def __init__(self, vectors: NDArray[np.float32], rows: int) -> None:
        self._vectors, self.rows = vectors, rows

    def __call__(self) -> NDArray[np.float32]:
        """All rows there are now."""
        return self._vectors[: self.rows]


class Contract:
    """Tests that a subclass runs against its engine."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """The engine over ``vectors``."""
        raise NotImplementedError

    @pytest.fixture
    def vectors(self) -> Growing:
        """600 rows, and 100 that come later."""
        return Growing(unit_vectors(ROWS + 100, 8), ROWS)

    @pytest.fixture
    def engine(self, vectors: Growing, tmp_path: Path) -> Iterator[VectorIndex]:
        """The engine."""
        engine = self.make(vectors, tmp_path)
        yield engine
        engine.close()

    def test_the_nearest_come_first(self, engine: VectorIndex, vectors: Growing) -> None:
        """Rows by inner product with their scores, as plain arithmetic has them."""
        query = unit_vectors(1, 8, seed=2)[0]
        rows, scores = engine.search(query, 50)
        right = vectors() @ query
        assert rows.tolist() == np.argsort(-right, kind="stable")[:50].tolist()
        assert np.allclose(scores, right[rows], atol=1e-5)
        assert rows.dtype == np.int64
        assert scores.dtype == np.float32

    def test_only_allowed_rows_are_found(self, engine: VectorIndex, vectors: Growing) -> None:
        """A filter leaves the nearest of the rows it allows; rows beyond its end are not allowed."""
        query, marked = unit_vectors(1, 8, seed=2)[0], np.arange(ROWS - 50) % 7 == 3
        rows, _ = engine.search(query, 40, Allowed(marked))
        right = np.where(np.append(marked, np.zeros(50, np.bool_)), vectors() @ query, -np.inf)
        assert rows.tolist() == np.argsort(-right, kind="stable")[:40].tolist()
        assert len(engine.search(query, 40, Allowed(np.zeros(ROWS, np.bool_)))[0]) == 0

    def test_several_are_searched_as_one_by_one(self, engine: VectorIndex) -> None:
        """Vectors that are asked together get what each gets alone, each as many as it asks for."""
        queries, marked = unit_vectors(4, 8, seed=2), Allowed(np.arange(ROWS) % 5 > 0)
        for allowed in (None, marked):
            together = engine.search_many(queries, [40, 0, 7, 40], allowed)
            for query, count, (rows, scores) in zip(queries, [40, 0, 7, 40], together, strict=True):
                alone = engine.search(query, count, allowed) if count else (np.zeros(0), np.zeros(0))
                assert rows.tolist() == alone[0].tolist()
                assert np.allclose(scores, alone[1])

    def test_a_vector_of_zeros_finds_as_many_as_it_asks_for(self, engine: VectorIndex) -> None:
        """All rows are equally near to it."""
        rows, scores = engine.search(np.zeros(8, np.float32), 30, Allowed(np.arange(ROWS) % 2 == 1))
        assert len(set(rows.tolist())) == 30
        assert (rows % 2 == 1).all()
        assert not scores.any()

    def test_more_than_there_is_gives_all(self, engine: VectorIndex) -> None:
        """Asking for more rows than there are is no error."""
        rows, _ = engine.search(unit_vectors(1, 8)[0], 5 * ROWS)
        assert sorted(rows.tolist()) == list(range(ROWS))

    def test_new_rows_are_found(self, engine: VectorIndex, vectors: Growing) -> None:
        """Rows that were added since are found once the engine has grown."""
        vectors.rows = ROWS + 100
        engine.grow()
        assert len(engine) == ROWS + 100
        rows, _ = engine.search(vectors()[ROWS + 50], 1)
        assert rows.tolist() == [ROWS + 50]

    def test_erased_rows_score_nothing(self, engine: VectorIndex, vectors: Growing) -> None:
        """Of rows that are erased no engine knows more than that they were there."""
        query = vectors()[7].copy()
        gone = np.array([7, 8, 590])
        engine.erase(gone)
        vectors()[gone] = 0
        rows, scores = engine.search(query, ROWS)
        assert rows[0] != 7
        assert np.abs(scores[np.isin(rows, gone)]).max(initial=0) == 0
        assert len(set(rows.tolist())) == len(rows)


class TestExact(Contract):
    """faiss over the mapped vectors."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """See `Contract.make`."""
        del folder
        return ExactIndex(vectors)

    def test_an_engine_without_rows_finds_none(self) -> None:
        """No rows is an answer."""
        assert len(ExactIndex(lambda: np.zeros((0, 8), np.float32)).search(np.ones(8, np.float32), 5)[0]) == 0


class TestInvertedFile(Contract):
    """faiss' inverted file; with a recall asked for that no probing of few lists reaches, so that it is exact."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """See `Contract.make`."""
        built = inverted_build.build(folder, vectors(), _times(ROWS), recall=0.9999999)
        inverted_build.publish(folder, built, np.zeros(ROWS, np.bool_))
        return InvertedFileIndex(folder, vectors, few=0)

    def test_no_more_is_looked_through_than_is_enough(self, vectors: Growing, tmp_path: Path) -> None:
        """The shortest look that reaches the wanted recall is used, and what it reaches is on record."""
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS), recall=0.5)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS, np.bool_))
        opened = InvertedFileIndex(tmp_path, vectors).opened
        lists, _ = opened.chosen_lists(vectors()[:5].copy(), np.full(5, 100))
        assert lists.shape[1] < len(opened.books)
        assert 0.5 <= opened.current.recall < 1

    def test_where_little_is_let_through_it_is_looked_for_everywhere(self, vectors: Growing, tmp_path: Path) -> None:
        """A file that may miss half of the nearest misses none of one row in thirty."""
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS), recall=0.5)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS, np.bool_))
        engine, few = InvertedFileIndex(tmp_path, vectors, few=0), Allowed(np.arange(ROWS) % 30 == 7)
        for query in unit_vectors(5, 8, seed=2):
            assert engine.search(query, 10, few)[0].tolist() == ExactIndex(vectors).search(query, 10, few)[0].tolist()

    def test_another_worker_goes_over_to_a_new_file(self, vectors: Growing, tmp_path: Path) -> None:
        """Who has the old file open answers from it until it grows, then from the new one."""
        engine = self.make(vectors, tmp_path)
        assert isinstance(engine, InvertedFileIndex)
        vectors.rows = ROWS + 100
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS + 100), recall=0.9)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS + 100, np.bool_))
        assert (engine.opened.current.rows, len(engine.search(vectors()[0], 700)[0])) == (ROWS, ROWS + 100)
        engine.grow()
        assert engine.opened.current.rows == ROWS + 100
        assert engine.search(vectors()[650], 1)[0].tolist() == [650]

    def test_a_file_grows_without_what_was_erased(self, vectors: Growing, tmp_path: Path) -> None:
        """A new file has the codes of the one before, but for erased rows, and those of the rows that came since."""
        engine = self.make(vectors, tmp_path)
        assert isinstance(engine, InvertedFileIndex)
        before, gone = _contents(engine.opened.lists), np.array([3, 77])
        engine.erase(gone)
        vectors.rows = ROWS + 100
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS + 100), recall=0.9)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS + 100, np.bool_))
        engine.grow()
        after, order = _contents(engine.opened.lists), engine.opened.order
        assert sorted(order[list(after)].tolist()) == sorted(set(range(ROWS + 100)) - {3, 77})
        assert {key: after[key] for key in before if order[key] not in gone} == {
            key: code for key, code in before.items() if order[key] not in gone
        }
        assert {path.name for path in tmp_path.iterdir()} == {CURRENT, *(f"{built.file}.{end}" for end in ENDINGS)}

    def test_files_of_an_older_form_are_removed(self, vectors: Growing, tmp_path: Path) -> None:
        """What this engine would not erase in is not kept; a file of its own form is."""
        folder = tmp_path / "lists"
        self.make(vectors, folder)
        discard_older(folder)
        assert read_current(folder) is not None
        (folder / CURRENT).write_text('{"file": "5-1", "rows": 5, "looks": [[100, 0.9, 4.0]], "recall": 0.99}')
        assert read_current(folder) is None
        discard_older(folder)
        assert not folder.exists()

    def test_nothing_of_an_erased_vector_is_on_disk(self, vectors: Growing, tmp_path: Path) -> None:
        """Its code and id are gone from the file, whether erased at once or after a crash in between; others stay."""
        engine = self.make(vectors, tmp_path)
        assert isinstance(engine, InvertedFileIndex)
        before, order = _contents(engine.opened.lists), engine.opened.order.tolist()
        assert len(before) == ROWS
        engine.erase(np.array([7]))
        assert _contents(engine.opened.lists) == {key: code for key, code in before.items() if order[key] != 7}
        inverted_build.erase_dead(tmp_path, np.arange(ROWS) == 9)
        left = {key: code for key, code in before.items() if order[key] not in {7, 9}}
        again = InvertedFileIndex(tmp_path, vectors).opened.lists
        assert _contents(again) == _contents(engine.opened.lists) == left
        for number, size in enumerate(again.sizes.tolist()):
            gone = np.flatnonzero(again.ids(number)[:size] == -1)
            assert not again.codes(number)[gone].any()

    def test_a_query_that_says_nothing_of_who_saw_it_is_answered_exactly(
        self, vectors: Growing, tmp_path: Path
    ) -> None:
        """Of rows that share second halves the nearest, of equally near ones the first, and none that was erased."""
        rows = vectors()
        rows[:, 4:] = rows[:40, 4:][np.random.default_rng(3).integers(0, 40, ROWS)]
        built = inverted_build.build(tmp_path, rows, _times(ROWS), recall=0.5)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS, np.bool_))
        engine = InvertedFileIndex(tmp_path, vectors, few=0)
        query = rows[:3] * np.repeat([0, 1], 4).astype(np.float32)
        query[1] = rows[1]
        assert engine.opened.by_lists(query).tolist() == [False, True, False]
        odd, gone = Allowed(np.arange(ROWS) % 2 == 1), np.flatnonzero((rows[:, 4:] == rows[0, 4:]).all(axis=1))[:2]
        for erased in (None, gone):
            if erased is not None:
                engine.erase(erased)
                rows[erased] = 0
            for allowed in (None, odd):
                exact = ExactIndex(vectors).search_many(query, [30, 5, 200], allowed)
                found = engine.search_many(query, [30, 5, 200], allowed)
                for number in (0, 2):
                    mine = found[number][0]
                    assert np.allclose(found[number][1], exact[number][1], atol=1e-6)
                    assert np.allclose(rows[mine] @ query[number], found[number][1], atol=1e-6)
                    assert allowed is None or allowed.contains(mine).all()
                    assert erased is None or not np.isin(erased, mine).any()

    def test_what_is_not_there_cannot_be_opened(self, vectors: Growing, tmp_path: Path) -> None:
        """A folder without a file, or with a damaged one, is a clear error."""
        with pytest.raises(StorageError, match="no inverted file"):
            InvertedFileIndex(tmp_path, vectors)
        self.make(vectors, tmp_path)
        for file in tmp_path.glob("*.lists*"):
            kept = file.read_bytes()
            file.write_bytes(b"not really")
            with pytest.raises(StorageError, match="cannot read"):
                InvertedFileIndex(tmp_path, vectors)
            file.write_bytes(kept)


class TestFewOfAnInvertedFile(Contract):
    """The same file, where filters let so few rows through that these are compared."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """See `Contract.make`."""
        built = inverted_build.build(folder, vectors(), _times(ROWS), recall=0.9999999)
        inverted_build.publish(folder, built, np.zeros(ROWS, np.bool_))
        return InvertedFileIndex(folder, vectors)

    @pytest.mark.parametrize("allowed", [40, 1, 0])
    def test_all_that_may_be_found_are_found(self, vectors: Growing, tmp_path: Path, allowed: int) -> None:
        """However short the look, and in whatever lists they are."""
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS), recall=0.5)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS, np.bool_))
        marked = np.zeros(ROWS, np.bool_)
        marked[np.random.default_rng(4).permutation(ROWS)[:allowed]] = True
        queries = unit_vectors(3, 8, seed=2)
        found = InvertedFileIndex(tmp_path, vectors).search_many(queries, [allowed, 5, 600], Allowed(marked))
        exact = ExactIndex(vectors).search_many(queries, [allowed, 5, 600], Allowed(marked))
        for (rows, scores), (right, best_scores) in zip(found, exact, strict=True):
            assert rows.tolist() == right.tolist()
            assert np.allclose(scores, best_scores, atol=1e-6)


class TestMilvus(Contract):
    """The embedded Milvus Lite, which speaks to pymilvus as a server does."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """See `Contract.make`."""
        pytest.importorskip("milvus_lite", reason="needs `pip install 'coda-edge[milvus]'`")
        from cloud_broker.matching.milvus_index import MilvusIndex

        return MilvusIndex(str(folder / "milvus.db"), "pool", vectors)

    def test_another_worker_goes_on(self, engine: VectorIndex, vectors: Growing, tmp_path: Path) -> None:
        """What was copied to the server is not copied again."""
        from cloud_broker.matching.milvus_index import MilvusIndex

        engine.close()
        again = MilvusIndex(str(tmp_path / "milvus.db"), "pool", vectors)
        assert len(again) == ROWS
        assert again.search(vectors()[3], 1)[0].tolist() == [3]
        again.close()


def _contents(lists: PackedLists) -> dict[int, bytes]:
    """Each id's code."""
    return {
        int(key): code.tobytes() for _, ids, codes in lists.contents() for key, code in zip(ids, codes, strict=True)
    }


def test_allowed_rows_are_told_apart() -> None:
    """A filter says of any row whether it is in it, also beyond its end."""
    allowed = Allowed(np.arange(13) % 3 == 0)
    assert allowed.contains(np.array([0, 1, 12, 13, 500])).tolist() == [True, False, True, False, False]
    assert allowed.share == pytest.approx(5 / 13)


@given(st.lists(st.sampled_from([-3.5, -1e-30, -0.0, 0.0, 1e-30, 0.25, 7.0]), max_size=40), st.integers(0, 40))
def test_the_best_come_first_and_equal_ones_in_the_order_of_rows(values: list[float], count: int) -> None:
    """Scores of either sign descend; of equal ones, zero of either sign too, the lower row comes first."""
    rows = np.random.default_rng(1).permutation(len(values)).astype(np.int64) + 2**31
    scores = np.array(values, np.float32)
    order = np.lexsort((rows, -scores))[:count]
    found = ordered(rows, scores, count)
    assert np.array_equal(found[0], rows[order])
    assert np.array_equal(found[1], scores[order])


@pytest.mark.parametrize("array", [np.zeros(0), np.ones((3, 5), np.float32), np.arange(20_000)[::2]])
def test_touching_leaves_what_is_there(array: NDArray[Any]) -> None:
    """Pages of any array are read, an empty or a scattered one too, and nothing is changed."""
    before = array.copy()
    touched(array)
    assert np.array_equal(array, before)
