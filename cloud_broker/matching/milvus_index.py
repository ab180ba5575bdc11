"""The engine of pools that have outgrown a machine: a Milvus server, or cluster, by its URI.

Vectors are copied to the server, under their rows as primary keys, so any worker may go on where another stopped. Which
rows may be found only this process knows: it asks for more and drops the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.matching.vector_index import Allowed, Rows, VectorIndex, Vectors, ordered

try:
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
except ImportError as error:
    raise StorageError("matching: milvus_uri needs pymilvus: `pip install 'coda-edge[milvus]'`") from error

_ROWS_A_CALL = 5_000
_MOST = 16_384  # that the server answers one search with
_ROW, _VECTOR = "row_number", "vector"


class MilvusIndex(VectorIndex):
    """Rows on a Milvus server."""

    margin: ClassVar[float] = 1.5

    def __init__(self, uri: str, collection: str, vectors: Callable[[], Vectors]) -> None:
        """Connect, and copy to the server what it lacks.

        Args:
            uri: ``http://host:19530``, or the path of a file for the embedded Milvus Lite.
            collection: Name of the collection, which is made if it is not there.
            vectors: Gives all rows' vectors as they are now.

        Raises:
            StorageError: If the server cannot be reached or refuses.
        """
        self._uri, self._collection, self._vectors = uri, collection, vectors
        self._client: Any = self._asked(MilvusClient, uri)
        if not self._asked(self._client.has_collection, collection):
            self._create(vectors().shape[1])
        self._asked(self._client.load_collection, collection)
        last = self._asked(self._client.query, collection, filter=f"{_ROW} >= 0", output_fields=["count(*)"])
        # Erased rows are kept as zeros, so as many rows are there as were copied.
        self._rows = int(last[0]["count(*)"])
        self.grow()

    def __len__(self) -> int:
        return self._rows

    def search(self, vector: NDArray[np.float32], count: int, allowed: Allowed | None = None) -> tuple[Rows, Vectors]:
        """See `VectorIndex.search`; nothing beyond the 16,384 nearest, which is as far as the server looks."""
        most = min(self._rows, _MOST)
        look = min(count, most)
        while look > 0:
            found = self._asked(
                self._client.search, self._collection, [np.asarray(vector, np.float32)], limit=look, anns_field=_VECTOR
            )[0]
            rows = np.array([hit[_ROW] for hit in found], np.int64)
            scores = np.array([hit["distance"] for hit in found], np.float32)
            may = np.ones(len(rows), np.bool_) if allowed is None else allowed.contains(rows)
            if may.sum() >= count or look == most:
                return ordered(rows[may], scores[may], count)
            look = min(4 * look, most)
        return np.zeros(0, np.int64), np.zeros(0, np.float32)

    def grow(self) -> None:
        """Copy new rows to the server; rows that another worker copied are only written again."""
        vectors = self._vectors()
        for begin in range(self._rows, len(vectors), _ROWS_A_CALL):
            self._put(np.arange(begin, min(begin + _ROWS_A_CALL, len(vectors))), vectors)

    def erase(self, rows: Rows) -> None:
        """Overwrite rows with zeros on the server."""
        mine = rows[rows < self._rows]
        zeros = np.zeros((self._rows, self._vectors().shape[1]), np.float32) if len(mine) else self._vectors()
        for begin in range(0, len(mine), _ROWS_A_CALL):
            self._put(mine[begin : begin + _ROWS_A_CALL], zeros)

    def close(self) -> None:
        """Leave the server."""
        self._client.close()

    def _put(self, rows: Rows, vectors: Vectors) -> None:
        values = [{_ROW: int(row), _VECTOR: vectors[row].tolist()} for row in rows]
        self._asked(self._client.upsert, self._collection, values)
        self._rows = max(self._rows, int(rows[-1]) + 1)

    def _create(self, dimensions: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_ROW, DataType.INT64, is_primary=True)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dimensions)
        index = MilvusClient.prepare_index_params()
        index.add_index(_VECTOR, index_type="AUTOINDEX", metric_type="IP")
        self._asked(
            self._client.create_collection,
            self._collection,
            schema=schema,
            index_params=index,
            consistency_level="Strong",
        )

    def _asked(self, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        try:
            return call(*values, **named)
        except (MilvusException, ValueError, OSError) as error:
            raise StorageError(f"Milvus at {self._uri}: {error}") from error


def remove_collection(uri: str, collection: str) -> None:
    """Delete a collection from the server, if it is there.

    Raises:
        StorageError: If the server cannot be reached or refuses.
    """
    try:
        client: Any = MilvusClient(uri)
        try:
            client.drop_collection(collection)
        finally:
            client.close()
    except (MilvusException, ValueError, OSError) as error:
        raise StorageError(f"Milvus at {uri}: {error}") from error
