"""Erasing what was taken off a pool's list: from the segments, the columns, and whatever was made of its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.matching.derived import erase_rows
from cloud_broker.pool.columns import PoolColumns, rows_of
from cloud_broker.pool.manifest import Manifest
from cloud_broker.pool.segments import SegmentLog

OnErase = Callable[[NDArray[np.int64]], None]


class Eraser:
    """Overwrites what is listed as leaving; to be called with the pool's lock held.

    Args:
        directory: The pool's.
        manifest: Lists what is leaving.
        segments: Hold it.
    """

    def __init__(self, directory: Path, manifest: Manifest, segments: SegmentLog) -> None:
        self._directory = directory
        self._manifest = manifest
        self._segments = segments
        self._erasers: list[OnErase] = []

    def on_erase(self, eraser: OnErase) -> None:
        """Have ``eraser`` called with rows that are about to be erased."""
        self._erasers.append(eraser)

    def erase(self, columns: PoolColumns) -> int:
        """Overwrite what was taken off the list; also what another process was killed before it had overwritten.

        To be called before anything is appended, which would lie in the place of what is yet to be overwritten.

        Returns:
            How many samples.
        """
        leaving = self._manifest.leaving()
        if not leaving:
            return 0
        ranges = [(one.first_row, one.samples) for one in leaving if one.first_row is not None and one.samples]
        if ranges:
            rows = rows_of(ranges)
            erase_rows(self._directory, rows)
            for eraser in self._erasers:
                eraser(rows)
        columns.forget(ranges)
        for contributor in {one.contributor for one in leaving}:
            columns.open_items_again(self._manifest.ranges(contributor))
        self.erase_segments()
        return sum(one.samples for one in leaving)

    def erase_segments(self) -> None:
        """Overwrite its records alone, where the columns are to be made again."""
        leaving = self._manifest.leaving()
        if leaving:
            self._segments.erase([one.at for one in leaving])
            self._manifest.left()
