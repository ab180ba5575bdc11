"""Pulling a blob over the session, chunk by chunk, to continue after any cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge.blobs import Partial
from edge.errors import LinkTimeoutError, RefusedError
from edge.session import Incoming, Session
from edge.store import Store
from protocol.errors import IntegrityError
from protocol.messages import BlobRef, Chunk, Pull, Refusal
from protocol.topics import CHUNK_BYTES
from protocol.transfer import Download

BytesProgress = Callable[[int, int], None]

STALL_S = 120.0  # without a new chunk for so long, the round gives up for now


def fetch_blob(session: Session, store: Store, ref: BlobRef, on_progress: BytesProgress | None = None) -> Path:
    """Bring a blob here, unless it is here already, and return its path.

    Args:
        session: Where to ask.
        store: Keeps its chunks; those that are there are not asked for again.
        ref: What to bring.
        on_progress: Called with bytes that are here and bytes in all, after each chunk.

    Raises:
        RefusedError: If the cloud does not have it.
        IntegrityError: If it arrived damaged twice.
        LinkTimeoutError: If no chunk came for `STALL_S`.
        LinkError: If there is no connection.
    """
    if ref in store.blobs:
        return store.blobs.path(ref.sha256)
    try:
        return _Pulling(session, store, ref, on_progress).run()
    except IntegrityError:  # a power cut may have spoilt what the bitmap vouched for: once more, from nothing
        return _Pulling(session, store, ref, on_progress).run()


class _Pulling:
    def __init__(self, session: Session, store: Store, ref: BlobRef, on_progress: BytesProgress | None) -> None:
        self._session = session
        self._store = store
        self._ref = ref
        self._on_progress = on_progress
        self._asked: set[str] = set()

    def run(self) -> Path:
        self._session.connect()
        with self._store.blobs.partial(self._ref) as partial:
            self._new_download(partial)
            while not self._download.finished:
                self._pull()
                self._hear(partial)
            return partial.finish()

    def _new_download(self, partial: Partial) -> None:
        self._download = Download(self._ref, partial.have)
        self._connections = self._session.link.connections
        self._stalls_at_s = time.monotonic() + STALL_S

    def _pull(self) -> None:
        for chunks in self._download.next_pulls(time.monotonic()):
            self._asked.add(self._session.say(Pull(self._ref.sha256, chunks)))

    def _hear(self, partial: Partial) -> None:
        now_s = time.monotonic()
        incoming = self._session.hear(max(0.0, (self._download.next_deadline_s or now_s) - now_s))
        if incoming is not None:
            self._take(incoming, partial)
            self._session.settle(incoming)
        elif time.monotonic() > self._stalls_at_s:
            raise LinkTimeoutError(f"blob {self._ref.sha256[:12]}: no chunk for {STALL_S:.0f} s; the cloud is silent")
        if self._session.link.connections != self._connections:
            self._new_download(partial)

    def _take(self, incoming: Incoming, partial: Partial) -> None:
        message = incoming.message
        if isinstance(message, Refusal) and message.message_id in self._asked:
            self._session.settle(incoming)
            raise RefusedError(message.code, message.detail)
        received = self._download.receive(message) if isinstance(message, Chunk) else None
        if received is not None:
            partial.write(received)
            self._stalls_at_s = time.monotonic() + STALL_S
            if self._on_progress is not None:
                self._on_progress(min(partial.have.count * CHUNK_BYTES, self._ref.size_bytes), self._ref.size_bytes)
