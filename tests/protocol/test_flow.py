"""The window on a simulated line: it keeps the line busy and its queue short, whatever the line is."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chunks import chunk_of
from protocol.flow import INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_CHUNKS, Window
from protocol.messages import BlobRef
from protocol.topics import CHUNK_BYTES, CHUNK_SIZES, MAX_CHUNK_BYTES
from protocol.transfer import Download
from tests.protocol.strategies import PROPERTY

BLOB = bytes(5_000_000)
REF = BlobRef(hashlib.sha256(BLOB).hexdigest(), len(BLOB))


@dataclass
class Line:
    """A line with one queue before it: what it carries a second, and its round trip when empty."""

    rate: float
    round_trip_s: float
    free_s: float = 0.0

    def arrival_s(self, size_bytes: int, now_s: float) -> tuple[float, float]:
        """When an answer asked for now arrives, and how long it stood in the queue."""
        enters_s = now_s + self.round_trip_s / 2
        begins_s = max(enters_s, self.free_s)
        self.free_s = begins_s + size_bytes / self.rate
        return self.free_s + self.round_trip_s / 2, begins_s - enters_s


def _transfer(line: Line, window: Window, chunk_bytes: int, ref: BlobRef = REF) -> tuple[float, list[float]]:
    """Seconds that a transfer takes, and what each chunk waited in the queue."""
    download, begun_s = Download(ref, None, chunk_bytes, window), line.free_s
    now_s, under_way, waits_s = begun_s, list[tuple[float, int]](), []
    while not download.finished:
        for index in (index for pull in download.next_pulls(now_s) for index in pull):
            arrives_s, waited_s = line.arrival_s(chunk_bytes, now_s)
            heapq.heappush(under_way, (arrives_s, index))
            waits_s.append(waited_s)
        now_s, index = heapq.heappop(under_way)
        download.receive(chunk_of(BLOB[: ref.size_bytes], ref.sha256, index, chunk_bytes), now_s)
    return now_s - begun_s, waits_s


@pytest.mark.parametrize(
    ("rate", "round_trip_s"),
    [(31e3, 0.4), (0.25e6, 0.005), (0.25e6, 0.2), (1.25e6, 0.005), (1.25e6, 0.05), (1.25e6, 0.2), (12.5e6, 0.005)],
)
def test_the_line_is_busy_and_its_queue_short(rate: float, round_trip_s: float) -> None:
    """5 MB take at most 4% and a few round trips more than the line needs; the queue is a fraction of a round trip."""
    window = Window()
    elapsed_s, waits_s = _transfer(Line(rate, round_trip_s), window, CHUNK_BYTES)
    assert elapsed_s <= 1.04 * len(BLOB) / rate + 8 * round_trip_s
    chunk_s = CHUNK_BYTES / rate
    assert sorted(waits_s)[len(waits_s) // 2] <= 0.3 * round_trip_s + 2.5 * chunk_s
    assert window.rate == pytest.approx(rate, rel=0.05)
    assert window.round_trip_s is not None
    assert round_trip_s <= window.round_trip_s <= round_trip_s + 2.2 * chunk_s


def test_a_line_that_changes_is_measured_anew() -> None:
    """A line that became slower and longer is still kept busy after half a minute."""
    window = Window()
    line = Line(1.25e6, 0.02)
    _transfer(line, window, CHUNK_BYTES)
    line.rate, line.round_trip_s = 0.25e6, 0.4
    for _ in range(3):
        elapsed_s, _ = _transfer(line, window, CHUNK_BYTES)
        line.free_s += elapsed_s
    assert elapsed_s <= 1.15 * len(BLOB) / line.rate


def test_chunks_suit_the_line() -> None:
    """Unknown: the usual size. Slow: small, so that others get through. Fast: large. Never more than fits a message."""
    assert Window().chunk_bytes(MAX_CHUNK_BYTES) == CHUNK_BYTES
    assert Window().chunk_bytes(8 << 10) == 8 << 10
    assert Window().chunk_bytes(1) == CHUNK_SIZES[0]
    small = BlobRef(hashlib.sha256(BLOB[:400_000]).hexdigest(), 400_000)
    for rate, expected in ((30e3, CHUNK_SIZES[0]), (1.25e6, 16 << 10), (12.5e6, MAX_CHUNK_BYTES)):
        window = Window()
        _transfer(Line(rate, 0.02), window, CHUNK_BYTES, small)
        assert window.chunk_bytes(MAX_CHUNK_BYTES) == expected


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["ask", "arrive", "give-up", "wait"]), st.floats(0, 50)), max_size=60))
def test_the_window_is_bounded(events: list[tuple[str, float]]) -> None:
    """Whatever happens when, there is room for two chunks, never for more than a mebibyte, and patience ends."""
    window, now_s, tickets = Window(), 0.0, []
    for event, elapsed_s in events:
        if event == "wait":
            now_s += elapsed_s
        elif event == "ask":
            tickets.append(window.asked(CHUNK_BYTES, now_s))
        elif tickets and event == "arrive":
            window.arrived(tickets.pop(0), now_s)
        elif tickets:
            window.given_up(tickets.pop())
        for chunk_bytes in CHUNK_SIZES:
            assert MIN_CHUNKS <= window.chunks(chunk_bytes) <= MAX_WINDOW_BYTES // chunk_bytes
        assert 5.0 <= window.patience_s <= 30.0
    assert INITIAL_WINDOW_BYTES <= MAX_WINDOW_BYTES
