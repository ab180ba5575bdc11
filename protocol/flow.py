"""How many bytes of a transfer to have under way: enough to keep the line busy, and little more.

What is asked for beyond what the line holds waits in a queue before it, and so does everything else that is said
meanwhile. So the window is measured, not fixed, much as TCP's BBR does it (Cardwell et al., "BBR: Congestion-Based
Congestion Control", ACM Queue 14(5), 2016): the highest rate seen lately times the shortest round trip.

No clocks: whoever asks and receives says when.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from protocol.topics import CHUNK_BYTES, CHUNK_SIZES

INITIAL_WINDOW_BYTES = 4 * CHUNK_BYTES
MAX_WINDOW_BYTES = 1 << 20
MIN_CHUNKS = 2  # one on its way here while the other is being asked for
_STARTUP_GAIN, _GAIN = 2.0, 1.1
_GROWTH = 1.25  # startup ends where two rounds in a row were no faster than this
_ROUNDS_REMEMBERED = 8
_SHORTEST_HOLDS_S = 30.0  # then the round trip is measured anew, without a queue
_CHUNK_S = 0.02  # how long a chunk may keep the line from others, where chunks can be that small

_FIRST_PATIENCE_S = 30.0  # two chunks take 5 s at 50 kbit/s, the slowest line worth having
_LEAST_PATIENCE_S, _PATIENCE_ROUNDS = 5.0, 8.0


@dataclass(frozen=True)
class Ticket:
    """A request under way, and how things stood when it was made."""

    size_bytes: int
    asked_s: float
    delivered_bytes: int
    delivered_s: float
    probes: bool


class Window:
    """Measures one line, over any number of transfers one after the other."""

    def __init__(self) -> None:
        self._under_way_bytes = 0
        self._delivered_bytes = 0
        self._delivered_s = 0.0
        self._rates: deque[tuple[int, float]] = deque()
        self._round, self._round_ends_bytes = 0, 0
        self._shortest_s: float | None = None
        self._shortest_at_s = 0.0
        self._longest_s = 0.0
        self._probing = False
        self._starting, self._best_rate, self._flat_rounds = True, 0.0, 0

    @property
    def rate(self) -> float | None:
        """Bytes a second that the line carries; None before anything came."""
        return max((rate for _, rate in self._rates), default=None)

    @property
    def round_trip_s(self) -> float | None:
        """The shortest time lately from asking to having; None before anything came."""
        return self._shortest_s

    @property
    def patience_s(self) -> float:
        """How long to wait for an answer before asking again."""
        if self._shortest_s is None:
            return _FIRST_PATIENCE_S
        return min(_FIRST_PATIENCE_S, max(_LEAST_PATIENCE_S, _PATIENCE_ROUNDS * self._longest_s))

    def chunk_bytes(self, most_bytes: int) -> int:
        """The chunk size that suits the line: small on a slow one, so that others get through between chunks.

        Args:
            most_bytes: What fits into one message.
        """
        rate = self.rate
        wanted = CHUNK_BYTES if rate is None else rate * _CHUNK_S
        return max((size for size in CHUNK_SIZES if size <= min(wanted, most_bytes)), default=CHUNK_SIZES[0])

    def chunks(self, chunk_bytes: int) -> int:
        """How many chunks of that size may be under way."""
        if self.rate is None or self._shortest_s is None:
            wanted = float(INITIAL_WINDOW_BYTES)
        elif self._probing:
            wanted = 0.0
        else:
            wanted = (_STARTUP_GAIN if self._starting else _GAIN) * self.rate * self._shortest_s
        return max(MIN_CHUNKS, -int(-min(wanted, MAX_WINDOW_BYTES) // chunk_bytes))

    def asked(self, size_bytes: int, now_s: float) -> Ticket:
        """Note that so many bytes were asked for."""
        if self._under_way_bytes == 0:
            self._delivered_s = now_s  # the line was idle; the pause tells nothing of its rate
        if self._shortest_s is not None and now_s - self._shortest_at_s > _SHORTEST_HOLDS_S:
            self._probing = True
        probes = self._probing and self._under_way_bytes <= (MIN_CHUNKS - 1) * size_bytes
        self._under_way_bytes += size_bytes
        return Ticket(size_bytes, now_s, self._delivered_bytes, self._delivered_s, probes)

    def given_up(self, ticket: Ticket) -> None:
        """Note that what was asked for is no longer waited for."""
        self._under_way_bytes -= ticket.size_bytes

    def arrived(self, ticket: Ticket, now_s: float) -> None:
        """Note that what was asked for is here."""
        self._under_way_bytes -= ticket.size_bytes
        self._delivered_bytes += ticket.size_bytes
        self._delivered_s = now_s
        self._note_round_trip(now_s - ticket.asked_s, now_s, ticket.probes)
        elapsed_s = now_s - ticket.delivered_s
        if elapsed_s > 0:
            self._note_rate((self._delivered_bytes - ticket.delivered_bytes) / elapsed_s)
        if ticket.delivered_bytes >= self._round_ends_bytes:
            self._end_round()

    def _note_round_trip(self, elapsed_s: float, now_s: float, probed: bool) -> None:
        self._longest_s = max(0.9 * self._longest_s, elapsed_s)
        if self._shortest_s is None or elapsed_s <= self._shortest_s or probed:
            self._shortest_s, self._shortest_at_s, self._probing = elapsed_s, now_s, False

    def _note_rate(self, rate: float) -> None:
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._round, rate))

    def _end_round(self) -> None:
        self._round += 1
        self._round_ends_bytes = self._delivered_bytes
        while len(self._rates) > 1 and self._rates[0][0] < self._round - _ROUNDS_REMEMBERED:
            self._rates.popleft()
        if self._starting:
            rate = self.rate or 0.0
            grew = rate >= _GROWTH * self._best_rate
            self._best_rate = max(rate, self._best_rate)
            self._flat_rounds = 0 if grew else self._flat_rounds + 1
            self._starting = self._flat_rounds < 2
