"""Downloads over links that lose, repeat, reorder and damage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.chunks import Bitmap, chunk_count, chunk_of, verify
from protocol.errors import IntegrityError
from protocol.flow import Window
from protocol.messages import BlobRef, Chunk
from protocol.topics import CHUNK_BYTES
from protocol.transfer import MAX_DAMAGED_IN_A_ROW, Download
from tests.protocol.strategies import PROPERTY

PULL_TIMEOUT_S = Window().patience_s
LEAST_TIMEOUT_S = 5.0


class Source:
    """A blob of some chunks, the last one of 100 bytes, and the server's answers."""

    def __init__(self, chunks: int) -> None:
        pattern = b"".join(bytes([i]) * CHUNK_BYTES for i in range(chunks))
        self.blob = pattern[: (chunks - 1) * CHUNK_BYTES + 100]
        self.ref = BlobRef(hashlib.sha256(self.blob).hexdigest(), len(self.blob))
        self.chunks = [chunk_of(self.blob, self.ref.sha256, index) for index in range(chunks)]

    def damaged(self, index: int) -> Chunk:
        """Its chunk with one bit flipped."""
        chunk = self.chunks[index]
        return replace(chunk, data=bytes([chunk.data[0] ^ 1]) + chunk.data[1:])


SOURCES = {chunks: Source(chunks) for chunks in range(1, 7)}


def _fetch(download: Download, source: Source, disk: bytearray) -> list[int]:
    """Finish over a perfect link; what was asked for, in order."""
    asked = []
    while pulls := download.next_pulls(0.0):
        for index in (index for pull in pulls for index in pull):
            asked.append(index)
            received = download.receive(source.chunks[index], 0.0)
            assert received is not None
            disk[received.offset : received.offset + len(received.data)] = received.data
    return asked


@pytest.mark.parametrize("chunks", [1, 2, 3, 4, 5])
def test_resuming_fetches_exactly_what_is_missing(chunks: int) -> None:
    """From every possible bitmap, the rest is asked for once each, in order, and the whole verifies."""
    source = SOURCES[chunks]
    for here in product([False, True], repeat=chunks):
        have, disk = Bitmap(chunks), bytearray(len(source.blob))
        for index in (index for index in range(chunks) if here[index]):
            have.add(index)
            disk[index * CHUNK_BYTES : index * CHUNK_BYTES + CHUNK_BYTES] = source.chunks[index].data
        download = Download(source.ref, Bitmap.from_bytes(have.to_bytes(), chunks))
        assert _fetch(download, source, disk) == [index for index in range(chunks) if not here[index]]
        assert download.finished
        verify(bytes(disk), source.ref)


def test_window_bounds_what_is_outstanding() -> None:
    """Before the line is known, four chunks are under way; each that arrives makes room."""
    source = SOURCES[6]
    download = Download(source.ref)
    assert download.next_pulls(0.0) == [(0, 1, 2, 3)]
    assert download.next_pulls(1.0) == []
    assert download.outstanding == (0, 1, 2, 3)
    assert download.receive(source.chunks[1], 0.0) is not None
    assert download.next_pulls(2.0) == [(4,)]
    assert download.outstanding == (0, 2, 3, 4)


def test_deadline_says_when_to_wake_up() -> None:
    """The earliest pull's deadline counts; when it comes, that chunk is asked for again, and not before."""
    source = SOURCES[6]
    download = Download(source.ref)
    assert download.next_deadline_s is None
    download.next_pulls(10.0)
    assert download.next_deadline_s == 10.0 + PULL_TIMEOUT_S
    for index in range(3):
        download.receive(source.chunks[index], 10.5)
    download.next_pulls(15.0)
    soon_s = 15.0 + LEAST_TIMEOUT_S  # this line was seen to answer fast
    assert download.next_deadline_s == soon_s
    assert download.next_pulls(soon_s - 0.1) == []
    assert download.next_pulls(soon_s) == [(5, 4)]
    [late] = download.next_pulls(10.0 + PULL_TIMEOUT_S)
    assert sorted(late) == [3, 4, 5]


def test_while_chunks_come_none_is_asked_for_again() -> None:
    """On a line that takes as long for each as the patience for the first: one copy of each."""
    source, asked, now_s = SOURCES[6], list[int](), 0.0
    download = Download(source.ref)
    while not download.finished:
        asked += [index for pull in download.next_pulls(now_s) for index in pull]
        now_s += 0.9 * PULL_TIMEOUT_S
        download.receive(source.chunks[download.outstanding[0]], now_s)
    assert asked == list(range(6))


def test_chunk_that_comes_after_its_deadline_is_not_asked_for_again() -> None:
    """A slow link costs no second copy of what has already come."""
    source = SOURCES[1]
    download = Download(source.ref)
    download.next_pulls(0.0)
    assert download.receive(source.chunks[0], 0.0) is not None
    assert download.next_pulls(PULL_TIMEOUT_S) == []
    assert (download.finished, download.next_deadline_s) == (True, None)


def test_damaged_chunk_is_asked_for_again_at_once() -> None:
    """Neither a wrong checksum nor a wrong length is written, and neither waits for the timeout."""
    source = SOURCES[2]
    short = replace(source.chunks[0], data=source.chunks[0].data[:-1])
    for bad in (source.damaged(0), replace(source.chunks[0], crc32=-1), short):
        download = Download(source.ref)
        download.next_pulls(0.0)
        assert download.receive(bad, 0.0) is None
        assert download.next_pulls(0.0) == [(0,)]


def test_what_is_not_this_blobs_is_ignored() -> None:
    """Another blob's chunk, an index beyond the last, and a repetition change nothing."""
    source = SOURCES[2]
    download = Download(source.ref)
    download.next_pulls(0.0)
    download.receive(source.chunks[0], 0.0)
    before = (download.have.to_bytes(), download.outstanding)
    for chunk in (
        SOURCES[3].chunks[1],
        replace(source.chunks[1], index=2),
        replace(source.chunks[1], index=-1),
        source.chunks[0],
        source.damaged(0),
    ):
        assert download.receive(chunk, 0.0) is None
    assert (download.have.to_bytes(), download.outstanding) == before


def test_sender_with_a_bad_copy_is_given_up() -> None:
    """A blob that never arrives sound does not use up a device's data plan; one sound chunk starts the count anew."""
    source = SOURCES[2]
    download = Download(source.ref)
    download.next_pulls(0.0)
    for _ in range(MAX_DAMAGED_IN_A_ROW - 1):
        assert download.receive(source.damaged(1), 0.0) is None
    assert download.receive(source.chunks[0], 0.0) is not None
    for _ in range(MAX_DAMAGED_IN_A_ROW - 1):
        assert download.receive(source.damaged(1), 0.0) is None
    with pytest.raises(IntegrityError, match="16 damaged chunks in a row"):
        download.receive(source.damaged(1), 0.0)


def test_every_short_history_ends_in_the_whole_blob() -> None:
    """Whatever four things happen to the first pulls of a small blob, finishing fetches what is missing, no more."""
    source = SOURCES[3]
    for history in product(["lose", "deliver", "swap", "repeat", "damage", "wait", "restart"], repeat=4):
        _play(source, history)


def _play(source: Source, history: tuple[str, ...]) -> None:
    download, disk, now_s = Download(source.ref), bytearray(len(source.blob)), 0.0
    under_way: list[int] = []

    def take(chunk: Chunk) -> None:
        received = download.receive(chunk, now_s)
        if received is not None:
            disk[received.offset : received.offset + len(received.data)] = received.data

    for event in history:
        under_way += [index for pull in download.next_pulls(now_s) for index in pull]
        if event == "wait":
            now_s += PULL_TIMEOUT_S
        elif event == "restart":
            download = Download(source.ref, Bitmap.from_bytes(download.have.to_bytes(), 3))
        elif under_way:
            index = under_way[0] if event == "repeat" else under_way.pop(-1 if event == "swap" else 0)
            if event == "damage":
                take(source.damaged(index))
            elif event != "lose":
                take(source.chunks[index])
    missing = list(download.have.missing())
    download = Download(source.ref, download.have)
    assert _fetch(download, source, disk) == missing, history
    verify(bytes(disk), source.ref)


class Link(RuleBasedStateMachine):
    """A device that downloads over a link which loses, repeats, reorders and damages, and that may restart."""

    @initialize(chunks=st.sampled_from(sorted(SOURCES)))
    def start(self, chunks: int) -> None:
        """Nothing is here yet."""
        self.source = SOURCES[chunks]
        self.window = Window()
        self.room = self.window.chunks(CHUNK_BYTES)
        self.download = Download(self.source.ref, window=self.window)
        self.disk = bytearray(len(self.source.blob))
        self.kept = self.download.have.to_bytes()  # the bitmap on disk
        self.under_way: list[Chunk] = []
        self.now_s = 0.0

    @rule()
    def pull(self) -> None:
        """The server answers every pull at once; the answers are then under way."""
        self.room = max(len(self.download.outstanding), self.window.chunks(CHUNK_BYTES))
        for index in (index for pull in self.download.next_pulls(self.now_s) for index in pull):
            assert index not in self.download.have
            self.under_way.append(self.source.chunks[index])

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), repeat=st.booleans())
    def deliver(self, data: st.DataObject, repeat: bool) -> None:
        """Any answer may come next, and may come again."""
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        chunk = self.under_way[at] if repeat else self.under_way.pop(at)
        received = self.download.receive(chunk, self.now_s)
        if received is not None:
            assert received.index == chunk.index
            self.disk[received.offset : received.offset + len(received.data)] = received.data
            self.kept = self.download.have.to_bytes()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """An answer may never come."""
        self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), bit=st.integers(0, 799))
    def damage(self, data: st.DataObject, bit: int) -> None:
        """An answer may come with a bit flipped: it is never written."""
        chunk = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        bits = bytearray(chunk.data)
        bits[bit // 8] ^= 1 << bit % 8
        try:
            assert self.download.receive(replace(chunk, data=bytes(bits)), self.now_s) is None
        except IntegrityError:
            self.restart()

    @rule(elapsed_s=st.sampled_from([0.1, PULL_TIMEOUT_S / 2, PULL_TIMEOUT_S]))
    def wait(self, elapsed_s: float) -> None:
        """Time passes."""
        self.now_s += elapsed_s

    @rule()
    def restart(self) -> None:
        """The process dies; the disk, the bitmap on it and the clock stay."""
        chunks = chunk_count(self.source.ref.size_bytes)
        self.window = Window()
        self.download = Download(self.source.ref, Bitmap.from_bytes(self.kept, chunks), window=self.window)

    @invariant()
    def window_holds(self) -> None:
        """Never more is asked for than the window, and nothing that is here; a deadline is known exactly then."""
        outstanding = self.download.outstanding
        assert len(outstanding) <= self.room
        assert not any(index in self.download.have for index in outstanding)
        assert (self.download.next_deadline_s is None) == (not outstanding)

    @invariant()
    def what_is_here_is_sound(self) -> None:
        """A chunk that the bitmap names is on disk as it left the server."""
        for chunk in self.source.chunks:
            if chunk.index in self.download.have:
                at = chunk.index * CHUNK_BYTES
                assert self.disk[at : at + len(chunk.data)] == chunk.data

    def teardown(self) -> None:
        """From wherever this got to, a link that works again brings the rest, and only that, without a restart."""
        if not hasattr(self, "source"):
            return
        missing = set(self.download.have.missing())
        self.now_s += PULL_TIMEOUT_S  # what was outstanding is asked for again
        asked = []
        while pulls := self.download.next_pulls(self.now_s):
            for index in (index for pull in pulls for index in pull):
                asked.append(index)
                received = self.download.receive(self.source.chunks[index], self.now_s)
                assert received is not None
                self.disk[received.offset : received.offset + len(received.data)] = received.data
        assert sorted(asked) == sorted(missing)
        assert self.download.finished
        verify(bytes(self.disk), self.source.ref)


TestLink = Link.TestCase
TestLink.settings = settings(PROPERTY, max_examples=150, stateful_step_count=25)
