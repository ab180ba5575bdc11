"""The pool's samples as the published recommender sees them, and the matcher over them; both grow with the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import UnknownModelError
from cloud_broker.matching import Matcher, PoolView, ProfileMatcher, Rows
from cloud_broker.pool import SamplePool
from cloud_broker.pool_columns import FORGOTTEN
from cloud_broker.rows import RowFile
from cloud_broker.vectors import Embedder
from protocol.messages import Query
from protocol.samples import SampleBatch

_ROWS_A_STEP = 16_384

MakeMatcher = Callable[[PoolView], Matcher]
OnProgress = Callable[[int, int], None]


class SampleIndex:
    """Answers queries; safe to use from several threads.

    Attributes:
        pool: The samples.
        model_sha256: The recommender whose vectors it compares.
        rows: What its file does not hold of its largest table; None where it holds everything.
    """

    def __init__(
        self,
        pool: SamplePool,
        recommender: Path,
        model_sha256: str,
        *,
        rows: RowFile | None = None,
        make_matcher: MakeMatcher = ProfileMatcher,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Embed the whole pool.

        Args:
            pool: The samples; at least one.
            recommender: The converted file.
            model_sha256: Its digest, by which queries name it.
            rows: What the file does not hold.
            make_matcher: Builds the matcher over the pool.
            on_progress: Told rows done and rows in all.

        Raises:
            StorageError: If the file is not a recommender.
        """
        self.pool = pool
        self.model_sha256 = model_sha256
        self.rows = rows
        self._embedder = Embedder(recommender, rows=rows)
        self._make_matcher = make_matcher
        self._lock = threading.Lock()
        self._vectors = self._embed(pool.batch(), on_progress)
        self._matcher = self._make_matcher(self._view())

    def __len__(self) -> int:
        return len(self._matcher.view)

    def refresh(self) -> None:
        """Take in the samples that were added to the pool since."""
        with self._lock:
            new = self.pool.batch().take(slice(len(self._vectors), None))
            if len(new):
                self._vectors = np.concatenate([self._vectors, self._embed(new)])
                # Whoever is asking goes on with the old matcher, which stays as it is.
                self._matcher = self._make_matcher(self._view())

    def forget(self, contributor: str, message_id: str) -> int:
        """Delete what a contributor gave; see `SamplePool.forget`. No query finds it when this returns."""
        with self._lock:
            deleted = self.pool.forget(contributor, message_id)
            if deleted:
                gone = self.pool.contributors[: len(self._vectors)] == FORGOTTEN
                self._vectors = np.where(gone[:, np.newaxis], np.float32(0), self._vectors)
                self._matcher = self._make_matcher(self._view())
            return deleted

    def rank(self, query: Query, asker: str) -> Rows:
        """The pool's rows that suit a device's query; see `Matcher.rank`.

        Raises:
            UnknownModelError: If its centroids were made by another recommender.
            MalformedMessageError: If they have another width.
        """
        if query.model_sha256 != self.model_sha256:
            raise UnknownModelError(
                f"query for model {query.model_sha256[:12]}, this cloud serves {self.model_sha256[:12]}: sync the task"
            )
        return self._matcher.rank(query, self.pool.contributor_number(asker))

    def _view(self) -> PoolView:
        rows = len(self._vectors)
        return PoolView(self._vectors, self.pool.contributors[:rows], self.pool.content_keys[:rows])

    def _embed(self, batch: SampleBatch, on_progress: OnProgress | None = None) -> NDArray[np.float32]:
        pieces = []
        for begin in range(0, len(batch), _ROWS_A_STEP):
            pieces.append(self._embedder.vectors(batch.take(slice(begin, begin + _ROWS_A_STEP))))
            if on_progress is not None:
                on_progress(min(begin + _ROWS_A_STEP, len(batch)), len(batch))
        return np.concatenate(pieces)
