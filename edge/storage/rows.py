"""Rows of tables that model files do not hold, on disk, bound to the version they came in and bounded in number."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from edge.errors import RoundError
from edge.storage.database import Database
from protocol.rows import MAX_SLOTS, ROWS_PER_SHARD, RowBlock

# A round needs at most one shard for each slot, and the rows of its matched samples; what came first gives way.
MAX_ROWS = MAX_SLOTS * (ROWS_PER_SHARD + 1)

_FORGET_OLDEST = "DELETE FROM table_rows WHERE number <= (SELECT max(number) FROM table_rows) - ?"


class RowStore:
    """Rows by version and id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, block: RowBlock) -> None:
        """Keep rows.

        Raises:
            StoreError: If they cannot be written.
        """
        values = block.values.astype("<f4", copy=False)
        kept = [
            (block.version, number, value.tobytes()) for number, value in zip(block.ids.tolist(), values, strict=True)
        ]
        with self._database.transaction() as rows:
            rows.executemany("INSERT OR REPLACE INTO table_rows (version, id, value) VALUES (?, ?, ?)", kept)
            rows.execute(_FORGET_OLDEST, (MAX_ROWS,))

    def missing(self, version: str, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Those of ``ids`` whose rows are not here, ascending."""
        return np.setdiff1d(ids, np.array([*self._found(version, ids)], np.int32))

    def rows(self, version: str, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """The rows of ``ids``, float32 [n, width], in their order; n >= 1.

        Raises:
            RoundError: If one is not here.
        """
        found = self._found(version, ids)
        absent = [number for number in ids.tolist() if number not in found]
        if absent:
            raise RoundError(f"{len(absent)} of {len(ids)} rows of version {version[:12]} are not here: {absent[:4]}")
        values = b"".join(found[number] for number in ids.tolist())
        return np.frombuffer(values, "<f4").reshape(len(ids), -1).astype(np.float32)

    def _found(self, version: str, ids: NDArray[np.int32]) -> dict[int, bytes]:
        query = "SELECT id, value FROM table_rows WHERE version = ? AND id IN (SELECT value FROM json_each(?))"
        return dict(self._database.rows(query, version, json.dumps(ids.tolist())))

    def keep_only(self, versions: set[str]) -> None:
        """Forget the rows of every other version."""
        with self._database.transaction() as rows:
            known = {version for (version,) in rows.execute("SELECT DISTINCT version FROM table_rows")}
            rows.executemany("DELETE FROM table_rows WHERE version = ?", [(v,) for v in known - versions])
