"""Pull a blob in chunks, over any link that loses, repeats, reorders or damages them, and resume after any cut.

No sockets, files or clocks: `Download.next_pulls` says what to ask for, `Download.receive` what to write where. The
caller writes a received chunk to disk, then keeps the bitmap; a process that starts again continues from that bitmap.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass

from protocol.chunks import Bitmap, chunk_count
from protocol.errors import IntegrityError, MalformedMessageError
from protocol.flow import Ticket, Window
from protocol.messages import MAX_PULL_CHUNKS, BlobRef, ChunkData
from protocol.topics import CHUNK_BYTES

MAX_DAMAGED_IN_A_ROW = 16


@dataclass(frozen=True)
class Received:
    """A sound, new chunk: write ``data`` at ``offset`` of the blob's file."""

    index: int
    offset: int
    data: bytes


class Download:
    """One blob on its way here.

    A chunk is asked for again after a silence, not while others arrive: on a slow line it may stand behind them.

    After a reconnection, make a new one from `have`: what was asked for on the old connection is then asked for at
    once and not after the window's patience.

    Args:
        ref: The blob.
        have: What is here already; updated in place. Empty where not given.
        chunk_bytes: What the blob is cut by; ``have`` counts chunks of this size.
        window: Measures the line; one for all that comes over it, one after the other. A new one where not given.

    Raises:
        MalformedMessageError: If ``have`` is of a blob with another number of chunks.
    """

    def __init__(
        self, ref: BlobRef, have: Bitmap | None = None, chunk_bytes: int = CHUNK_BYTES, window: Window | None = None
    ) -> None:
        self.ref = ref
        self.chunk_bytes = chunk_bytes
        chunks = chunk_count(ref.size_bytes, chunk_bytes)
        self.have = Bitmap(chunks) if have is None else have
        if self.have.size != chunks:
            raise MalformedMessageError(f"blob {ref.sha256[:12]}: bitmap of {self.have.size} chunks is not its own")
        self._window = Window() if window is None else window
        self._wanted = deque(self.have.missing())
        self._under_way: dict[int, Ticket] = {}
        self._deadlines_s: dict[int, float] = {}
        self._damaged_in_a_row = 0

    @property
    def finished(self) -> bool:
        """Whether every chunk is here; the whole is still to be checked with `verify`."""
        return self.have.count == self.have.size

    @property
    def outstanding(self) -> tuple[int, ...]:
        """Chunks asked for and not here yet, oldest request first; at most what the window allows."""
        return tuple(self._deadlines_s)

    @property
    def next_deadline_s(self) -> float | None:
        """When to call `next_pulls` again if nothing arrives before; None if nothing is outstanding."""
        return min(self._deadlines_s.values(), default=None)

    def next_pulls(self, now_s: float) -> list[tuple[int, ...]]:
        """What to ask for now: the chunks of one `Pull` each.

        Call it at the start, after every `receive`, and when `next_deadline_s` has come.

        Args:
            now_s: A monotonic clock's reading.
        """
        for index in [index for index, deadline_s in self._deadlines_s.items() if deadline_s <= now_s]:
            self._ask_again(index)
        pull, room = [], self._window.chunks(self.chunk_bytes)
        while self._wanted and len(self._deadlines_s) < room:
            index = self._wanted.popleft()
            if index not in self.have:  # it may have come unasked, or after its deadline
                self._under_way[index] = self._window.asked(self._size_of(index), now_s)
                self._deadlines_s[index] = now_s + self._window.patience_s
                pull.append(index)
        return [tuple(pull[at : at + MAX_PULL_CHUNKS]) for at in range(0, len(pull), MAX_PULL_CHUNKS)]

    def receive(self, chunk: ChunkData, now_s: float) -> Received | None:
        """Take a chunk in.

        Returns:
            What to write, or None if there is nothing new in it: another blob's, one of another size, a repeated one,
            or a damaged one, which is then asked for again.

        Raises:
            IntegrityError: If `MAX_DAMAGED_IN_A_ROW` chunks were damaged; the sender's copy is bad, so give up.
        """
        ours = chunk.blob == self.ref.sha256 and chunk.chunk_bytes == self.chunk_bytes
        if not ours or not 0 <= chunk.index < self.have.size or chunk.index in self.have:
            return None
        if len(chunk.data) != self._size_of(chunk.index) or zlib.crc32(chunk.data) != chunk.crc32:
            self._refuse(chunk.index)
            return None
        self._damaged_in_a_row = 0
        if chunk.index in self._deadlines_s:
            del self._deadlines_s[chunk.index]
            self._window.arrived(self._under_way.pop(chunk.index), now_s)
        self.have.add(chunk.index)
        until_s = now_s + self._window.patience_s  # the line is at work: what else was asked for may stand in its queue
        self._deadlines_s = {index: max(deadline_s, until_s) for index, deadline_s in self._deadlines_s.items()}
        return Received(chunk.index, chunk.index * self.chunk_bytes, chunk.data)

    def close(self) -> None:
        """Let go of what is outstanding: the window waits for it no more."""
        for index in self.outstanding:
            self._forget(index)

    def _size_of(self, index: int) -> int:
        return min(self.chunk_bytes, self.ref.size_bytes - index * self.chunk_bytes)

    def _refuse(self, index: int) -> None:
        self._damaged_in_a_row += 1
        if self._damaged_in_a_row >= MAX_DAMAGED_IN_A_ROW:
            raise IntegrityError(f"blob {self.ref.sha256[:12]}: {self._damaged_in_a_row} damaged chunks in a row")
        if index in self._deadlines_s:
            self._ask_again(index)

    def _ask_again(self, index: int) -> None:
        self._forget(index)
        self._wanted.appendleft(index)

    def _forget(self, index: int) -> None:
        del self._deadlines_s[index]
        self._window.given_up(self._under_way.pop(index))
