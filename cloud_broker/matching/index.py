"""The pool's samples as a recommender sees them, and the matcher over them; both grow with the pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import UnknownModelError
from cloud_broker.matching import inverted_build
from cloud_broker.matching.agreement import AgreementMatcher
from cloud_broker.matching.askers import Askers
from cloud_broker.matching.derived import Derived, collection_name
from cloud_broker.matching.inverted_file import InvertedFileIndex, read_current
from cloud_broker.matching.matcher import Matcher, PoolView, RandomMatcher, Rows
from cloud_broker.matching.opinions import Opinions
from cloud_broker.matching.options import AGREEMENT, MatchOptions
from cloud_broker.matching.paging import touched
from cloud_broker.matching.profile_matching import ProfileMatcher
from cloud_broker.matching.vector_index import Allowed, ExactIndex, VectorIndex
from cloud_broker.matching.vectors import Embedder
from cloud_broker.models.rows import RowFile
from cloud_broker.pool.columns import FORGOTTEN
from cloud_broker.pool.guards import DAY_S
from cloud_broker.pool.sample_pool import SamplePool
from protocol.batch_codec import MAX_SAMPLES
from protocol.messages import Query
from protocol.samples import empty_batch

_ROWS_A_STEP = 16_384
_LOOK_S = 10.0  # after which what may be matched is looked up anew
_FEW_EXCLUDED = 0.05  # so few rows that must not be matched are cheaper to drop when found

OnProgress = Callable[[int, int], None]


class SampleIndex:
    """Answers queries; safe to use from several threads, and beside other processes that have the pool open.

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
        options: MatchOptions | None = None,
        on_progress: OnProgress | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Embed what of the pool is not embedded yet.

        Args:
            pool: The samples.
            recommender: The converted file.
            model_sha256: Its digest, by which queries name it.
            rows: What the file does not hold.
            options: How samples are chosen.
            on_progress: Told rows done and rows in all.
            clock: Unix seconds.

        Raises:
            StorageError: If the file is not a recommender, or the disk fails.
        """
        self.pool = pool
        self.model_sha256 = model_sha256
        self.rows = rows
        self._options = options or MatchOptions()
        self._clock = clock
        self._embedder = Embedder(recommender, rows=rows)
        width = self._embedder.vectors(empty_batch(pool.schema, 1)).shape[1]
        self._lock = threading.Lock()
        self._closed = False
        self._askers = Askers(pool)
        with pool.locked():
            self._derived = Derived(pool.directory, model_sha256, width)
        self._embed(on_progress)
        self._allowed: Allowed | None = None
        self._opinions: Opinions | None = None
        self._agreeing: NDArray[np.bool_] | None = None
        self._engine = self._make_engine()
        self._looked_s = -_LOOK_S
        self._matcher = self._make_matcher()
        self.refresh()

    def __len__(self) -> int:
        return len(self._derived)

    def refresh(self) -> None:
        """Take in the samples that were added to the pool since, by whatever process."""
        with self._lock:
            self._embed()
            if isinstance(self._engine, ExactIndex) and read_current(self._derived.lists):
                self._engine = self._make_engine()
            self._engine.grow()
            if time.monotonic() >= self._looked_s + _LOOK_S:
                self._looked_s = time.monotonic()
                allowed = self._look()
                if allowed is not None:
                    # Engines bring a filter into their own form; no query shall wait for that.
                    self._engine.search(np.zeros(self._derived.vectors().shape[1], np.float32), 1, allowed)
                self._allowed = allowed
                if self._options.matcher == AGREEMENT:
                    self._look_for_opinions()
            self._matcher = self._make_matcher()

    def tidy(self, on_progress: OnProgress | None = None) -> None:
        """Make an inverted file, or a new one, if the pool has outgrown what there is; may take minutes.

        Queries are answered meanwhile. To be called by one process at a time.
        """
        outgrown = len(self) >= self._options.exact_below
        if isinstance(self._engine, InvertedFileIndex):
            outgrown = self._engine.outgrown()
        if self._options.milvus_uri or not outgrown:
            return
        vectors = self._derived.vectors()
        time_s = self.pool.columns.column("time_s")[: len(vectors)]
        built = inverted_build.build(self._derived.lists, vectors, time_s, self._options.recall, on_progress)
        with self.pool.locked():
            inverted_build.publish(self._derived.lists, built, self.pool.contributors[: len(self)] == FORGOTTEN)
        self.refresh()

    def forget(self, contributor: str, message_id: str) -> int:
        """Delete what a contributor gave; see `SamplePool.forget`. No query finds it when this returns."""
        return self.pool.forget(contributor, message_id)

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
        if query.max_samples > MAX_SAMPLES:  # more are never sent, and ranking a whole pool would keep others waiting
            query = replace(query, max_samples=MAX_SAMPLES)
        return self.matcher().rank(query, self._askers.number(asker))

    def matcher(self) -> Matcher:
        """The matcher over the pool's rows as they are now; a window may begin some seconds too early."""
        known, since_s = self._matcher, self._since_s()
        if len(known.view) == len(self._derived) and (since_s or 0) < (known.view.since_s or 0) + _LOOK_S:
            return known
        return self._make_matcher()

    def _make_matcher(self) -> Matcher:
        if self._options.matcher == "random":
            return RandomMatcher(self._view(), self._options)
        if self._options.matcher == AGREEMENT:
            return AgreementMatcher(self._view(), self._options, self._engine)
        return ProfileMatcher(self._view(), self._options, self._engine)

    @property
    def engine(self) -> VectorIndex:
        """What finds the nearest rows."""
        return self._engine

    def close(self) -> None:
        """Let go of the engine; the vectors stay on disk."""
        with self.pool.locked():
            self._derived.flush()
            self._closed = True
        self._engine.close()

    def _make_engine(self) -> VectorIndex:
        if self._options.milvus_uri:
            from cloud_broker.matching.milvus_index import MilvusIndex  # noqa: PLC0415 - pymilvus is needed by few

            engine = MilvusIndex(self._options.milvus_uri, collection_name(self.model_sha256), self._derived.vectors)
            # What other processes erased while this one was away; what they erase meanwhile scores nothing here.
            engine.erase(np.flatnonzero(self.pool.contributors[: len(self)] == FORGOTTEN))
            self.pool.on_erase(lambda rows: None if self._closed else engine.erase(rows))
            return engine
        if read_current(self._derived.lists) is None:
            return ExactIndex(self._derived.vectors)
        with self.pool.locked():
            inverted_build.erase_dead(self._derived.lists, self.pool.contributors[: len(self)] == FORGOTTEN)
        view = self._view()
        for column in (view.contributors, view.content_keys, view.items, view.time_s):
            if column is not None:
                touched(column)
        return InvertedFileIndex(self._derived.lists, self._derived.vectors)

    def _view(self) -> PoolView:
        columns, rows = self.pool.columns, len(self._derived)
        return PoolView(
            self._derived.vectors()[:rows],
            self.pool.contributors[:rows],
            self.pool.content_keys[:rows],
            items=columns.items(slice(rows)),
            labels=columns.column("label")[:rows],
            sharers=columns.sharers,
            time_s=columns.column("time_s")[:rows],
            since_s=self._since_s(),
            opinions=self._opinions,
            agreeing=self._agreeing,
            allowed=self._allowed,
        )

    def _since_s(self) -> float | None:
        """What happened before is too old to be matched."""
        window = self._options.window_days
        return self._clock() - window * DAY_S if window else None

    def _look(self) -> Allowed | None:
        """Which rows may be matched at all; None if nearly all of them."""
        view, k = self._view(), self._options.k_anonymity
        may = view.contributors != FORGOTTEN
        if k > 1 and view.sharers is not None and view.items is not None:
            may &= view.sharers[view.items] >= k
        if view.since_s is not None and view.time_s is not None:
            may &= view.time_s >= view.since_s
        allowed = Allowed(may)
        return allowed if allowed.share < 1 - _FEW_EXCLUDED else None

    def _look_for_opinions(self) -> None:
        """Who has opinions of what, and who allows that they are compared."""
        rows = len(self._derived)
        if self._opinions is None or self._opinions.outgrown(rows):
            self._opinions = Opinions(self.pool.columns.items(slice(rows)), self.pool.contributors[:rows])
        self._agreeing = self.pool.agreeing()

    def _embed(self, on_progress: OnProgress | None = None) -> None:
        """Embed the rows that have no vectors yet, some at a time, so that other writers come in between."""
        while len(self._derived) < len(self.pool):
            with self.pool.locked():
                begin, end = len(self._derived), min(len(self._derived) + _ROWS_A_STEP, len(self.pool))
                if begin < end:
                    vectors = self._embedder.vectors(self.pool.take(slice(begin, end)))
                    vectors[self.pool.contributors[begin:end] == FORGOTTEN] = 0
                    self._derived.append(begin, vectors)
            if on_progress is not None and end < len(self.pool):
                on_progress(end, len(self.pool))
        if on_progress is not None:
            on_progress(len(self._derived), len(self._derived))
