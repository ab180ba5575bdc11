"""The keeper: the one process that holds the pool and its index, for any number of workers on the same machine.

Memory then grows with the pool and not with the workers, there is one writer, and what is contributed or forgotten is
so for all workers at once. A worker holds nothing: it may be killed at any moment, and so may the keeper, which has on
disk what it has said yes to. faiss searches without Python's lock, so searches of several workers run side by side.
"""

from __future__ import annotations

import logging
import os
import socketserver
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cloud_broker.errors import StorageError
from cloud_broker.keeper_wire import SOCKET, Frame, batch_frame, batch_of, error_frame, read_frame, send_frame
from cloud_broker.samples_index import Index
from protocol import envelope
from protocol.messages import Query

_LONGEST_PATH = 107  # bytes; a Unix socket's name has 108 with its end

logger = logging.getLogger(__name__)


def socket_path(state_dir: Path) -> Path:
    """Where a state folder's keeper listens.

    Raises:
        StorageError: If the path is too long for a socket.
    """
    path = state_dir.resolve() / SOCKET
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StorageError(f"{path} is too long for a Unix socket: move state_dir to a shorter path")
    return path


class Keeper:
    """Serves an index over the socket of its state folder; a context manager."""

    def __init__(self, state_dir: Path, index: Index) -> None:
        """Prepare.

        Args:
            state_dir: The cloud's folder, where the socket is made.
            index: Over the pool; safe to use from several threads.

        Raises:
            StorageError: If no socket can be made there.
        """
        self._index = index
        self._path = socket_path(state_dir)
        self._operations: dict[str, Callable[[Frame], Frame]] = {
            "about": self._about,
            "rank": self._rank,
            "take": self._take,
            "add": self._add,
            "forget": self._forget,
        }
        keeper = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                keeper._serve(self.request)

        try:
            if self._path.exists() and stat.S_ISSOCK(self._path.stat().st_mode):
                self._path.unlink()  # of one that was killed: the supervisor starts one at a time
            self._server = _Server(str(self._path), Connection)
        except OSError as error:
            raise StorageError(f"cannot listen at {self._path}: {error.strerror}") from error
        self._path.chmod(0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)

    def _serve(self, connection: Any) -> None:
        while (frame := read_frame(connection)) is not None:
            try:
                answer = self._operations[frame["do"]](frame)
            except Exception as error:
                logger.exception("the keeper failed to %s", frame.get("do"))
                answer = error_frame(error)
            try:
                send_frame(connection, answer)
            except OSError:
                return  # the worker is gone, and asks again if it comes back

    def _about(self, _frame: Frame) -> Frame:
        return {"schema": self._index.pool.schema.to_dict(), "samples": len(self._index.pool)}

    def _rank(self, frame: Frame) -> Frame:
        query = envelope.decode("up", Query.kind, frame["query"]).message
        assert isinstance(query, Query)
        return {"rows": self._index.rank(query, frame["asker"]).astype(np.int64).tobytes()}

    def _take(self, frame: Frame) -> Frame:
        return batch_frame(self._index.pool.take(np.frombuffer(frame["rows"], np.int64)))

    def _add(self, frame: Frame) -> Frame:
        pool = self._index.pool
        added: int = pool.add(frame["contributor"], batch_of(frame["batch"], pool.schema), frame["message_id"])
        if added:
            self._index.refresh()
        return {"added": added}

    def _forget(self, frame: Frame) -> Frame:
        return {"forgotten": self._index.forget(frame["contributor"], frame["message_id"])}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 256
