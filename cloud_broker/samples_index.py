"""What answering devices needs of the pool and its index: in this process, or kept by another one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching import Rows
from cloud_broker.rows import RowFile
from protocol.messages import Query
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema


class Samples(Protocol):
    """A pool, as `cloud_broker.pool.SamplePool`."""

    @property
    def schema(self) -> FeatureSchema:
        """Of its samples."""

    def take(self, rows: NDArray[np.int64]) -> SampleBatch:
        """The samples of ``rows``, in that order."""

    def add(self, contributor: str, batch: SampleBatch, message_id: str) -> int:
        """Add what one message gave; durable when this returns."""


class Index(Protocol):
    """An index over a pool, as `cloud_broker.index.SampleIndex`."""

    @property
    def pool(self) -> Any:
        """The samples; a `Samples`."""

    @property
    def rows(self) -> RowFile | None:
        """What the model's file does not hold of its largest table."""

    def __len__(self) -> int:
        """Samples."""

    def refresh(self) -> None:
        """Take in the samples that were added to the pool since."""

    def forget(self, contributor: str, message_id: str) -> int:
        """Delete what a contributor gave."""

    def rank(self, query: Query, asker: str) -> Rows:
        """The pool's rows that suit a query."""
