"""What every engine promises: the same tests for exact search, the inverted file and Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_broker import inverted_build
from cloud_broker.errors import StorageError
from cloud_broker.inverted_file import InvertedFileIndex
from cloud_broker.vector_index import Allowed, ExactIndex, VectorIndex
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
        return InvertedFileIndex(folder, vectors)

    def test_fewer_lists_are_probed_where_that_is_enough(self, vectors: Growing, tmp_path: Path) -> None:
        """The fewest probes that reach the wanted recall are used, and what they reach is on record."""
        built = inverted_build.build(tmp_path, vectors(), _times(ROWS), recall=0.5)
        inverted_build.publish(tmp_path, built, np.zeros(ROWS, np.bool_))
        current = InvertedFileIndex(tmp_path, vectors).opened.current
        assert current.probes_for(100) < inverted_build.lists_for(ROWS)
        assert 0.5 <= current.recall < 1

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

    def test_nothing_of_an_erased_vector_is_on_disk(self, vectors: Growing, tmp_path: Path) -> None:
        """Its bytes are gone from the file, for every worker, whether erased at once or after a crash in between."""
        engine = self.make(vectors, tmp_path)
        (file,) = tmp_path.glob("*.faiss")
        gone, after_a_crash = vectors()[7].tobytes(), vectors()[9].tobytes()
        assert gone in file.read_bytes()
        engine.erase(np.array([7]))
        assert gone not in file.read_bytes()
        assert after_a_crash in file.read_bytes()
        inverted_build.erase_dead(tmp_path, np.arange(ROWS) == 9)
        assert after_a_crash not in file.read_bytes()

    def test_what_is_not_there_cannot_be_opened(self, vectors: Growing, tmp_path: Path) -> None:
        """A folder without a file, or with a damaged one, is a clear error."""
        with pytest.raises(StorageError, match="no inverted file"):
            InvertedFileIndex(tmp_path, vectors)
        self.make(vectors, tmp_path)
        (file,) = tmp_path.glob("*.faiss")
        file.write_bytes(b"IwFl, but not really")
        with pytest.raises(StorageError, match="cannot read"):
            InvertedFileIndex(tmp_path, vectors)


class TestMilvus(Contract):
    """The embedded Milvus Lite, which speaks to pymilvus as a server does."""

    def make(self, vectors: Growing, folder: Path) -> VectorIndex:
        """See `Contract.make`."""
        pytest.importorskip("milvus_lite", reason="needs `pip install 'coda-edge[milvus]'`")
        from cloud_broker.milvus_index import MilvusIndex

        return MilvusIndex(str(folder / "milvus.db"), "pool", vectors)

    def test_another_worker_goes_on(self, engine: VectorIndex, vectors: Growing, tmp_path: Path) -> None:
        """What was copied to the server is not copied again."""
        from cloud_broker.milvus_index import MilvusIndex

        engine.close()
        again = MilvusIndex(str(tmp_path / "milvus.db"), "pool", vectors)
        assert len(again) == ROWS
        assert again.search(vectors()[3], 1)[0].tolist() == [3]
        again.close()


def test_allowed_rows_are_told_apart() -> None:
    """A filter says of any row whether it is in it, also beyond its end."""
    allowed = Allowed(np.arange(13) % 3 == 0)
    assert allowed.contains(np.array([0, 1, 12, 13, 500])).tolist() == [True, False, True, False, False]
    assert allowed.share == pytest.approx(5 / 13)
