"""A pool's samples by row, as whoever chooses among them reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cloud_broker.pool.columns import PoolColumns
from cloud_broker.pool.manifest import Manifest
from protocol.samples import SampleBatch


class PoolRows:
    """What can be read of a pool without its lock; `cloud_broker.pool.sample_pool.SamplePool` opens and writes it."""

    _manifest: Manifest
    _columns: PoolColumns

    def __len__(self) -> int:
        return len(self._columns)

    def batch(self) -> SampleBatch:
        """All samples by row, as a view; forgotten ones are all zeros."""
        return self._columns.batch()

    def take(self, rows: NDArray[np.int64] | slice) -> SampleBatch:
        """The samples of ``rows``, in that order."""
        return self._columns.take(rows)

    def live_rows(self) -> NDArray[np.int64]:
        """The rows that were not forgotten."""
        return np.flatnonzero(self.contributors > 0).astype(np.int64)

    def living(self) -> tuple[SampleBatch, NDArray[np.int32]]:
        """All samples but forgotten ones, and whose they are, [n]; a view where none was forgotten."""
        owners = self.contributors  # as they are now: others may add meanwhile
        live = np.flatnonzero(owners > 0)
        rows = slice(len(owners)) if len(live) == len(owners) else live
        return self.take(rows), owners[rows]

    @property
    def columns(self) -> PoolColumns:
        """All columns, for those who choose among rows."""
        return self._columns

    @property
    def contributors(self) -> NDArray[np.int32]:
        """Each row's contributor, as the number that `contributor_number` gives, or `FORGOTTEN`; [n]."""
        column: NDArray[np.int32] = self._columns.column("contributor")
        return column

    @property
    def content_keys(self) -> NDArray[np.int64]:
        """Each row's key of features and label: equal content, equal key; [n]."""
        column: NDArray[np.int64] = self._columns.column("content_key")
        return column

    def contributor_number(self, name: str) -> int | None:
        """The number of a contributor in `contributors`; None if it gave nothing."""
        return self._manifest.number(name)

    def contributor_names(self) -> dict[int, str]:
        """Names of contributors by their numbers."""
        return self._manifest.names()

    def agreeing(self) -> NDArray[np.bool_]:
        """Who allows that its opinions are compared, by contributor number; bool [largest such number + 1]."""
        numbers = self._manifest.agreeing()
        marked = np.zeros(max(numbers, default=0) + 1, np.bool_)
        marked[numbers] = True
        return marked

    def live(self) -> tuple[int, int]:
        """How many contributors and samples are in the pool."""
        return self._manifest.live()

    def time_order(self) -> NDArray[np.int64]:
        """Rows from the oldest sample to the newest; rows of equal time by arrival."""
        return np.argsort(self._columns.column("time_s"), kind="stable").astype(np.int64)
