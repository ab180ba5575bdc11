"""The pool as each model sees it that devices may still hold: the newest, and those it superseded a short while ago.

A newer model is embedded in the background, by one process, while all go on with those before; once it is ready every
process takes it up by itself. A query is answered from the vectors of the model that made it, for as long as that model
is kept; then its device is told to sync.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cloud_broker.errors import StorageError, UnknownBlobError, UnknownModelError
from cloud_broker.matching import derived
from cloud_broker.matching.index import OnProgress, SampleIndex
from cloud_broker.matching.kept_models import KeptModels, is_ready, kept_models
from cloud_broker.matching.matcher import Rows
from cloud_broker.matching.options import MatchOptions
from cloud_broker.models.registry import PublishedModel, Registry
from cloud_broker.models.rows import RowFile
from cloud_broker.pool.sample_pool import SamplePool
from protocol.messages import Query

_AGAIN_S = 60.0  # after which a model whose file could not be used is tried again
_LET_GO_S = 60.0  # in which every process has let go of a model that is not kept, before its vectors are removed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Served:
    """Models that are answered for; replaced and never changed, so that whoever asks meanwhile sees one whole state."""

    model: PublishedModel
    indices: Mapping[str, SampleIndex]


class Versions:
    """One index a model; safe to use from several threads, and beside other processes that have the pool open.

    Attributes:
        pool: The samples.
    """

    def __init__(
        self,
        pool: SamplePool,
        registry: Registry,
        options: MatchOptions | None = None,
        on_progress: OnProgress | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the models that are ready; where none is, embed the pool for the newest one now.

        Args:
            pool: The samples.
            registry: The models.
            options: How samples are chosen, and which models are kept.
            on_progress: Told rows done and rows in all.
            clock: Unix seconds.

        Raises:
            StorageError: If no model is published for such a pool, or one's file is not a recommender.
        """
        self.pool = pool
        self._registry = registry
        self._options = options or MatchOptions()
        self._clock = clock
        self._lock = threading.Lock()
        self._open: _Served | None = None
        self._leaving: dict[str, float] = {}  # since when it is known that nobody needs it
        self._spoilt: dict[str, float] = {}  # until when its file is not tried again
        self.look()
        if self._open is None:
            model = next(iter(self._kept().given), None)
            if model is None:
                raise StorageError("no model is published that fits the pool: make one with `coda cloud train`")
            self._opened(model, on_progress).close()
            derived.mark_ready(pool.directory, model.recommender.sha256)
            self.look()

    def __len__(self) -> int:
        return len(self.newest)

    @property
    def model(self) -> PublishedModel:
        """The newest model that is ready: the one that devices are given."""
        return self._served.model

    @property
    def newest(self) -> SampleIndex:
        """The pool as `model` sees it."""
        served = self._served
        return served.indices[served.model.recommender.sha256]

    @property
    def served(self) -> tuple[str, ...]:
        """Digests of the recommenders whose queries are answered, the newest first."""
        return tuple(self._served.indices)

    def of(self, model_sha256: str) -> SampleIndex:
        """The pool as a model sees it.

        Raises:
            UnknownModelError: If that model is not kept, or not ready.
        """
        if model_sha256 not in self._served.indices:
            self.look()  # another process may have taken up a model that this one has not looked for yet
        index = self._served.indices.get(model_sha256)
        if index is None:
            known = ", ".join(sha256[:12] for sha256 in self.served)
            raise UnknownModelError(f"query for model {model_sha256[:12]}, this cloud serves {known}: sync the task")
        return index

    def rank(self, query: Query, asker: str) -> Rows:
        """The pool's rows that suit a device's query, by the model that made it; see `SampleIndex.rank`.

        Raises:
            UnknownModelError: If that model is not kept, or not ready.
            MalformedMessageError: If its centroids have another width.
        """
        return self.of(query.model_sha256).rank(query, asker)

    def rows_of(self, model_sha256: str) -> RowFile | None:
        """What a model's file does not hold of its largest table; None where it holds everything.

        Raises:
            UnknownModelError: If that model is not kept, or not ready.
        """
        return self.of(model_sha256).rows

    def rows_of_version(self, version: str) -> RowFile:
        """The rows of a version, which a task names.

        Raises:
            UnknownModelError: If no model that is kept has them.
        """
        files = [index.rows for index in self._served.indices.values() if index.rows is not None]
        if not files:
            raise UnknownModelError("the model that this cloud serves holds all of its rows: sync the task")
        return next((file for file in files if file.table.version == version), files[0])

    def refresh(self) -> None:
        """Take in the samples that were added to the pool since, by whatever process, for every model."""
        for index in self._served.indices.values():
            index.refresh()

    def look(self) -> None:
        """Take up models that became ready, let go of those no longer kept; one that cannot be used is left out."""
        with self._lock:
            kept = self._kept()
            ready = [model for model in kept.all if is_ready(self.pool, model)]
            if not any(model in kept.given for model in ready):
                return
            held = {} if self._open is None else self._open.indices
            opened: dict[str, SampleIndex] = {}
            for model in ready:
                sha256 = model.recommender.sha256
                index = opened.get(sha256, held.get(sha256))
                if index is None:
                    index = self._usable(model)
                if index is not None:
                    opened[sha256] = index
            given = next((model for model in kept.given if model.recommender.sha256 in opened), None)
            if given is not None:
                self._open = _Served(given, opened)
        before, now = (opened, held) if given is None else (held, opened)
        for sha256 in set(before) - set(now):
            before[sha256].close()

    def prepare(self, on_progress: OnProgress | None = None) -> bool:
        """Embed and index the pool for the newest model that is not ready, and remove what is no longer kept.

        Queries are answered meanwhile, by the models before. What was done is not done again after a crash. To be
        called by one process at a time.

        Args:
            on_progress: Told rows done and rows in all; what it raises ends the work.

        Returns:
            Whether a model became ready.

        Raises:
            StorageError: If the model's file cannot be used, or the disk fails.
        """
        model = next((model for model in self._kept().all if not is_ready(self.pool, model)), None)
        if model is not None:
            logger.info("embedding %s samples for model %s", len(self.pool), model.version)
            index = self._opened(model, on_progress)
            index.tidy(on_progress)
            index.close()
            derived.mark_ready(self.pool.directory, model.recommender.sha256)
            logger.info("model %s is ready", model.version)
            self.look()
        self._remove_others()
        return model is not None

    def tidy(self) -> None:
        """See `SampleIndex.tidy`; of every model."""
        for index in self._served.indices.values():
            index.tidy()

    def embedded_share(self) -> float:
        """Share of the pool that is embedded for the newest published model, ready or not."""
        newest, rows = next(iter(self._kept().given), None), len(self.pool)
        if newest is None or not rows:
            return 1.0
        return min(1.0, derived.embedded_rows(self.pool.directory, newest.recommender.sha256) / rows)

    def close(self) -> None:
        """Let go of all engines; the vectors stay on disk."""
        for index in self._served.indices.values():
            index.close()

    @property
    def _served(self) -> _Served:
        assert self._open is not None
        return self._open

    def _kept(self) -> KeptModels:
        return kept_models(self._registry, self.pool, self._options, self._clock())

    def _remove_others(self) -> None:
        """Remove what belongs to no model that is kept, once every process has had the time to let go of it."""
        now_s, pool = self._clock(), self.pool.directory
        others = derived.others(pool, [model.recommender.sha256 for model in self._kept().all])
        self._leaving = {name: self._leaving.get(name, now_s) for name in others}
        for name in [name for name, since_s in self._leaving.items() if now_s >= since_s + _LET_GO_S]:
            derived.remove(pool, name)
            logger.info("removed the vectors of model %s, which is no longer kept", name)
            if self._options.milvus_uri:
                from cloud_broker.matching.milvus_index import remove_collection  # noqa: PLC0415 - pymilvus is needed by few

                remove_collection(self._options.milvus_uri, derived.collection_name(name))

    def _usable(self, model: PublishedModel) -> SampleIndex | None:
        """The pool as a model sees it; None, for a while, where its file is damaged: others are served meanwhile."""
        sha256 = model.recommender.sha256
        if time.monotonic() < self._spoilt.get(sha256, 0.0):
            return None
        try:
            return self._opened(model)
        except (StorageError, UnknownBlobError) as error:
            self._spoilt[sha256] = time.monotonic() + _AGAIN_S
            logger.error("model %s is not served: %s", model.version, error)  # noqa: TRY400 - the error says it all
            return None

    def _opened(self, model: PublishedModel, on_progress: OnProgress | None = None) -> SampleIndex:
        return SampleIndex(
            self.pool,
            self._registry.blobs.path(model.recommender.sha256),
            model.recommender.sha256,
            rows=self._registry.row_file(model),
            options=self._options,
            on_progress=on_progress,
            clock=self._clock,
        )
