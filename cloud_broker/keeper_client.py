"""A worker's view of the pool that the keeper holds: what `Handlers` need of an index, over the keeper's socket."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_broker.errors import StorageError
from cloud_broker.keeper import socket_path
from cloud_broker.keeper_wire import Frame, batch_frame, batch_of, error_of, read_frame, send_frame, unavailable
from cloud_broker.matching import Rows
from cloud_broker.rows import RowFile
from protocol import envelope
from protocol.messages import Query
from protocol.samples import SampleBatch
from protocol.schema import FeatureSchema

_TIMEOUT_S = 30.0


class KeptPool:
    """The pool, as far as a worker may; safe to use from several threads, each with a connection of its own."""

    def __init__(self, state_dir: Path) -> None:
        """Reach the keeper.

        Raises:
            UnavailableError: If it is not there.
        """
        self._path = socket_path(state_dir)
        self._local = threading.local()
        about = self.ask({"do": "about"})
        self._schema = FeatureSchema.from_dict(about["schema"])

    @property
    def schema(self) -> FeatureSchema:
        """Of its samples."""
        return self._schema

    def __len__(self) -> int:
        samples: int = self.ask({"do": "about"})["samples"]
        return samples

    def take(self, rows: NDArray[np.int64]) -> SampleBatch:
        """See `SamplePool.take`."""
        return batch_of(self.ask({"do": "take", "rows": rows.astype(np.int64).tobytes()}), self._schema)

    def add(self, contributor: str, batch: SampleBatch, message_id: str) -> int:
        """See `SamplePool.add`; the index has taken them in when this returns."""
        asked = {"do": "add", "contributor": contributor, "batch": batch_frame(batch), "message_id": message_id}
        added: int = self.ask(asked)["added"]
        return added

    def ask(self, frame: Frame) -> Frame:
        """Have the keeper do something; asked twice where the connection was of a keeper that is gone.

        Raises:
            UnavailableError: If there is no keeper.
            CloudError, ProtocolError: As the keeper met them.
        """
        try:
            answer = self._ask(frame)
        except (ConnectionError, EOFError):
            self._local.connection = None
            try:
                answer = self._ask(frame)
            except EOFError as error:
                raise unavailable(ConnectionResetError(str(error))) from error
            except OSError as error:
                raise unavailable(error) from error
        except OSError as error:
            self._local.connection = None
            raise unavailable(error) from error
        if "error" in answer:
            raise error_of(answer)
        return answer

    def _ask(self, frame: Frame) -> Frame:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(self._path))
            self._local.connection = connection
        send_frame(connection, frame)
        answer = read_frame(connection)
        if answer is None:
            raise EOFError("it ended before it answered")
        return answer


class KeptIndex:
    """The index over it; see `SampleIndex`.

    Attributes:
        pool: The samples.
        rows: What the recommender's file does not hold; mapped by each worker, so it is in memory once.
    """

    def __init__(self, state_dir: Path, rows: RowFile | None) -> None:
        """Reach the keeper; as `KeptPool`."""
        self.pool = KeptPool(state_dir)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.pool)

    def refresh(self) -> None:
        """Nothing is left to do: the keeper took in what was added."""

    def forget(self, contributor: str, message_id: str) -> int:
        """See `SampleIndex.forget`."""
        asked = {"do": "forget", "contributor": contributor, "message_id": message_id}
        forgotten: int = self.pool.ask(asked)["forgotten"]
        return forgotten

    def rank(self, query: Query, asker: str) -> Rows:
        """See `SampleIndex.rank`."""
        answer = self.pool.ask({"do": "rank", "query": envelope.encode(query, query.query_id), "asker": asker})
        rows: Rows = np.frombuffer(answer["rows"], np.int64)
        if rows.ndim != 1:
            raise StorageError("the keeper's answer is not rows")
        return rows
