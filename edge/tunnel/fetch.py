"""Bringing a blob here over the session, chunk by chunk, to continue after any cut.

A published blob lies on shared topics, chunk by chunk, where it is read from the broker and the cloud need not send it
once for each device. Where the broker has none of it, or a patch may be over a blob that is here, the cloud is asked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edge.errors import LinkTimeoutError, RefusedError
from edge.storage.blobs import BlobStore, Partial
from edge.tunnel.answers import Incoming
from edge.tunnel.saying import Saying
from edge.tunnel.session import Session
from protocol.errors import IntegrityError, ProtocolError
from protocol.messages import MAX_BASES, BlobRef, Chunk, Locate, Located, Message, Pull, Refusal
from protocol.patch import apply_patch
from protocol.topics import CHUNK_BYTES
from protocol.transfer import Download

BytesProgress = Callable[[int, int], None]


class HoldsBlobs(Protocol):
    """Where blobs are kept, such as a `edge.storage.store.Store`."""

    @property
    def blobs(self) -> BlobStore:
        """The blobs."""
        ...


_LEFT_AT_ONCE = 16
_SILENCE_S = 0.5  # of a broker that is asked for what it may not have; then the cloud is asked to put it there
STALL_S = 120.0  # without a new chunk for so long, the round gives up for now


def fetch_blob(session: Session, store: HoldsBlobs, ref: BlobRef, on_progress: BytesProgress | None = None) -> Path:
    """Bring a blob here that was made for this device, unless it is here already, and return its path.

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
    return _fetch(session, store, ref, False, on_progress)


def fetch_published(
    session: Session, store: HoldsBlobs, ref: BlobRef, on_progress: BytesProgress | None = None
) -> Path:
    """Bring a blob here that the whole fleet is to have, the cheapest way; as `fetch_blob`."""
    if ref in store.blobs:
        return store.blobs.path(ref.sha256)
    if not store.blobs.whole():  # there is nothing to patch, so it need not wait to be told where the blob is
        return _fetch(session, store, ref, True, on_progress, locate=True)
    located = _locate(session, store, ref)
    if located.patch is not None and located.patch.blob.size_bytes < ref.size_bytes:
        patch = located.patch
        try:
            path = _fetch(session, store, patch.blob, patch.shared, on_progress)
            return store.blobs.put(ref, apply_patch(store.blobs.path(patch.base).read_bytes(), path.read_bytes(), ref))
        except (ProtocolError, OSError):
            pass  # then the whole of it
        finally:
            store.blobs.discard(patch.blob.sha256)
    return _fetch(session, store, ref, located.shared, on_progress)


def _locate(session: Session, store: HoldsBlobs, ref: BlobRef) -> Located:
    def is_answer(message: Message) -> bool:
        return isinstance(message, Located) and message.blob == ref.sha256

    with session.ask(Locate(ref.sha256, store.blobs.whole()[:MAX_BASES]), is_answer) as answer:
        assert isinstance(answer, Located)
        return answer


def _fetch(
    session: Session,
    store: HoldsBlobs,
    ref: BlobRef,
    shared: bool,
    on_progress: BytesProgress | None,
    *,
    locate: bool = False,
) -> Path:
    if ref in store.blobs:
        return store.blobs.path(ref.sha256)
    try:
        return _Pulling(session, store, ref, shared, on_progress).run(locate=locate)
    except IntegrityError:  # a power cut may have spoilt what the bitmap vouched for: once more, from nothing
        return _Pulling(session, store, ref, shared, on_progress).run(locate=locate)


class _Pulling:
    def __init__(
        self, session: Session, store: HoldsBlobs, ref: BlobRef, shared: bool, on_progress: BytesProgress | None
    ) -> None:
        self._session = session
        self._store = store
        self._ref = ref
        self._shared = shared
        self._on_progress = on_progress
        self._asked: set[str] = set()
        self._read: set[int] = set()  # chunks whose shared topics we listen on
        self._locate_at_s = math.inf
        self._locating: Saying | None = None

    def run(self, *, locate: bool) -> Path:
        self._session.connect()
        if locate:
            self._locate_at_s = time.monotonic() + _SILENCE_S
        with self._store.blobs.partial(self._ref, self._chunk_bytes()) as partial:
            self._new_download(partial)
            try:
                while not self._download.finished:
                    self._ask()
                    self._hear(partial)
            finally:
                self._download.close()
                self._leave(sorted(self._read))
            return partial.finish()

    def _chunk_bytes(self) -> int:
        """The size that the line asks for, but none that would throw away what is here."""
        if self._shared:
            return CHUNK_BYTES
        wanted = self._session.window.chunk_bytes(self._session.link.max_chunk_bytes)
        return min(wanted, self._store.blobs.begun_with(self._ref) or wanted)

    def _new_download(self, partial: Partial) -> None:
        self._download = Download(self._ref, partial.have, partial.chunk_bytes, self._session.window)
        self._connections = self._session.link.connections
        self._leave([index for index in self._read if index in partial.have])
        self._read.clear()
        self._stalls_at_s = time.monotonic() + STALL_S

    def _ask(self) -> None:
        self._locate()
        for chunks in self._download.next_pulls(time.monotonic()):
            if self._read.intersection(chunks):  # asked for before, and not there: the broker has lost it
                self._shared = False
                self._leave(sorted(self._read))  # or it might come twice
            if self._shared:
                self._session.read_shared(self._ref.sha256, chunks)
                self._read.update(chunks)
            else:
                pull = Pull(self._ref.sha256, chunks, self._download.chunk_bytes)
                self._asked.add(self._session.say(pull))

    def _locate(self) -> None:
        """Ask the cloud where it is, once the broker has said nothing for a while, until the answer comes."""
        if time.monotonic() >= self._locate_at_s:
            self._locate_at_s = math.inf
            self._locating, asked = self._session.saying(Locate(self._ref.sha256))
            self._asked.add(asked)
        if self._locating is not None:
            self._locating.step()

    def _leave_some(self, partial: Partial) -> None:
        """Leave the topics of chunks that are here, several at a time: each answer costs the line some."""
        here = [index for index in self._read if index in partial.have]
        if len(here) >= _LEFT_AT_ONCE:
            self._leave(here)

    def _leave(self, chunks: Sequence[int]) -> None:
        self._session.link.leave_shared(self._ref.sha256, chunks)
        self._read.difference_update(chunks)

    def _hear(self, partial: Partial) -> None:
        now_s = time.monotonic()
        next_s = min(self._download.next_deadline_s or now_s, self._locate_at_s)
        patience_s = max(0.0, next_s - now_s)
        if self._locating is not None:
            patience_s = min(patience_s, self._locating.pause_s())
        incoming = self._session.hear(patience_s, self._connections)
        if incoming is not None:
            self._take(incoming, partial)
            self._session.settle(incoming)
        elif time.monotonic() > self._stalls_at_s:
            raise LinkTimeoutError(f"blob {self._ref.sha256[:12]}: no chunk for {STALL_S:.0f} s; the cloud is silent")
        if self._session.link.connections != self._connections:
            self._download.close()
            self._new_download(partial)

    def _take(self, incoming: Incoming, partial: Partial) -> None:
        message = incoming.message
        if isinstance(message, Refusal) and message.message_id in self._asked:
            self._session.settle(incoming)
            raise RefusedError(message.code, message.detail)
        if isinstance(message, Located) and message.blob == self._ref.sha256:
            self._locating = None
            if self._shared and not message.shared:
                self._shared = False
                self._download.close()
                self._new_download(partial)
        if not isinstance(message, Chunk):
            return
        received = self._download.receive(message, incoming.delivery.arrived_s)
        if received is not None:
            self._locate_at_s = math.inf  # the broker has it
            self._leave_some(partial)
            self._ask()  # before the disk, so that the line does not wait for it
            partial.write(received)
            self._stalls_at_s = time.monotonic() + STALL_S
            here = min(partial.have.count * partial.chunk_bytes, self._ref.size_bytes)
            if self._on_progress is not None:
                self._on_progress(here, self._ref.size_bytes)
