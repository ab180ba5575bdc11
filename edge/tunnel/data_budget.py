"""How much data a month may still take, and what a round does about it.

A round is begun only if the files that it lacks, its report and a few samples fit what is left of the month; matched
samples then take what fits. Where nothing is left the device does not even connect.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import DataBudgetError
from edge.storage.blobs import BlobStore
from profiling.data_use import DataUse
from protocol.messages import Task

# Handshake, task, query, report and acknowledgements of a round, and MQTT's and TLS' share of a transfer.
ROUND_BYTES = 48 << 10
OVERHEAD = 1.06
LEAST_MATCH_BYTES = 4 << 10


@dataclass(frozen=True)
class DataBudget:
    """A month's bytes; UTC months.

    Attributes:
        use: What was used.
        monthly_bytes: What may be; None for no limit.
        clock: Unix seconds.
    """

    use: DataUse
    monthly_bytes: int | None
    clock: Callable[[], float] = time.time

    @property
    def left_bytes(self) -> int | None:
        """What is left of the month, not below 0; None for no limit."""
        return None if self.monthly_bytes is None else max(0, self.monthly_bytes - self.use.charged_this_month())

    def check_any_left(self) -> None:
        """See that anything is left.

        Raises:
            DataBudgetError: If not.
        """
        if self.left_bytes == 0:
            raise self._refusal("nothing is left")

    def check_round(self, task: Task, blobs: BlobStore) -> None:
        """See that a round of this task fits, with a few matched samples at least.

        Raises:
            DataBudgetError: If it does not.
        """
        left, needed = self.left_bytes, self._needed(task, blobs) + LEAST_MATCH_BYTES
        if left is not None and left < needed:
            raise self._refusal(f"{left} bytes are left, a round of task {task.version} needs {needed}")

    def match_bytes(self, wanted_bytes: int) -> int:
        """What matched samples may take now, at most ``wanted_bytes``."""
        left = self.left_bytes
        if left is None:
            return wanted_bytes
        return min(wanted_bytes, max(LEAST_MATCH_BYTES, int((left - ROUND_BYTES) / OVERHEAD)))

    @property
    def next_month_s(self) -> float:
        """Seconds until the next month begins."""
        now = time.gmtime(self.clock())
        year, month = (now.tm_year + 1, 1) if now.tm_mon == 12 else (now.tm_year, now.tm_mon + 1)
        return max(0.0, calendar.timegm((year, month, 1, 0, 0, 0)) - self.clock())

    def _needed(self, task: Task, blobs: BlobStore) -> int:
        missing = sum(ref.size_bytes for ref in (task.recommender, task.classifier) if ref not in blobs)
        return int(missing * OVERHEAD) + ROUND_BYTES

    def _refusal(self, why: str) -> DataBudgetError:
        hours = self.next_month_s / 3600
        return DataBudgetError(
            f"data budget: {self.use.charged_this_month()} of this month's {self.monthly_bytes} bytes are used; {why}. "
            f"The next month begins in {hours:.0f} h; `coda edge data` tells what used them"
        )
