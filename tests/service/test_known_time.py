"""The time that samples age by, under clocks that jump."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.feedback.events import Event, EventKind
from edge.feedback.labelling import EventRules
from edge.scheduling.known_time import NEAR_S, SETTLED_S, Belief, KnownTime, Reading, read_clocks, why_not_followed
from edge.storage.event_store import EventStore
from edge.storage.store import Store
from tests.edge.samples import SCHEMA

DAY_S = 86400.0
YEAR_S = 365 * DAY_S
NOW_S = 1_800_000_000.0


@dataclass
class Board:
    """A board's clocks, moved by hand."""

    reading: Reading = field(default_factory=lambda: Reading(NOW_S, 100.0, "first", False))

    def passes(self, seconds: float) -> None:
        """Both clocks go on."""
        now = self.reading
        self.reading = replace(now, unix_s=now.unix_s + seconds, uptime_s=now.uptime_s + seconds)

    def jumps(self, seconds: float, *, confirmed: bool = False) -> None:
        """The wall clock alone is set."""
        self.reading = replace(self.reading, unix_s=self.reading.unix_s + seconds, confirmed=confirmed)

    def boots(self, unix_s: float) -> None:
        """After a time without power."""
        self.reading = Reading(unix_s, 5.0, f"boot at {unix_s}", False)

    def known(self, folder: Path) -> KnownTime:
        """What a process on it knows."""
        return KnownTime(folder / "time.json", lambda: self.reading)


def _add(store: EventStore, item: int, unix_s: float) -> None:
    store.add([Event(EventKind.CLICK, item, int(unix_s))], SCHEMA, EventRules(keep_days=365.0))


def test_a_clock_that_jumps_ahead_forgets_nothing(tmp_path: Path) -> None:
    """Two years ahead, all samples stay; when it is back, they still do; those of a year ago go with the years."""
    board = Board()
    with Store(tmp_path) as store:
        known = board.known(tmp_path)
        events = EventStore(store.samples._database, store.samples, lambda: known.unix_s)
        _add(events, 1, known.unix_s)
        board.jumps(2 * YEAR_S)
        _add(events, 2, known.unix_s)
        assert store.samples.count == 2
        assert known.look().off_by_s == pytest.approx(2 * YEAR_S)
        board.jumps(-2 * YEAR_S)
        _add(events, 3, known.unix_s)
        assert store.samples.count == 3
        assert known.look().off_by_s is None
        for _ in range(70):  # years of steady running
            board.passes(6 * DAY_S)
            known.look()
        _add(events, 4, known.unix_s)
        assert store.samples.count == 1


def test_a_jump_that_ntp_made_is_followed(tmp_path: Path) -> None:
    """At once, in both directions."""
    board = Board()
    known = board.known(tmp_path)
    known.look()
    for jump_s in (5 * YEAR_S, -3 * YEAR_S):
        board.jumps(jump_s, confirmed=True)
        assert known.unix_s == board.reading.unix_s
        board.jumps(0.0)


def test_a_jump_that_lasts_a_day_is_followed(tmp_path: Path) -> None:
    """Where there is no NTP that could confirm it; a clock that is set again meanwhile starts anew."""
    board = Board()
    known = board.known(tmp_path)
    known.look()
    board.jumps(YEAR_S)
    known.look()
    board.passes(SETTLED_S - 1)
    assert known.look().off_by_s is not None
    board.jumps(YEAR_S)
    assert known.look().off_by_s is not None
    board.passes(SETTLED_S - 1)
    assert known.look().off_by_s is not None
    board.passes(1)
    assert known.unix_s == board.reading.unix_s


def test_a_board_without_a_clock_goes_on_from_what_it_knew(tmp_path: Path) -> None:
    """It boots in 1970: time goes on from the last run's, until NTP has set the clock."""
    board = Board()
    assert board.known(tmp_path).unix_s == NOW_S
    board.boots(10.0)
    known = board.known(tmp_path)
    assert known.unix_s == NOW_S
    board.passes(60.0)
    belief = known.look()
    assert belief.unix_s == NOW_S + 60.0
    assert "1970-01-01" in (why_not_followed(belief) or "")
    board.jumps(NOW_S + 30 * DAY_S, confirmed=True)
    assert known.unix_s == board.reading.unix_s
    assert why_not_followed(known.look()) is None


def test_a_board_is_not_older_than_its_certificate(tmp_path: Path) -> None:
    """A first boot in 1970 begins at the certificate's date."""
    board = Board(Reading(0.0, 5.0, "first", False))
    known = board.known(tmp_path)
    known.not_before(NOW_S)
    board.passes(60.0)
    assert known.unix_s == NOW_S + 60.0


def test_a_short_time_without_power_needs_no_confirmation(tmp_path: Path) -> None:
    """Some days; after weeks the clock has to be confirmed."""
    board = Board()
    board.known(tmp_path).look()
    board.boots(NOW_S + NEAR_S)
    assert board.known(tmp_path).unix_s == NOW_S + NEAR_S
    board.boots(NOW_S + 20 * DAY_S)
    assert board.known(tmp_path).unix_s == NOW_S + NEAR_S


def test_what_is_over_stays_over(tmp_path: Path) -> None:
    """Also where the wall clock goes back by days again and again, over boots; until NTP says what time it is."""
    board = Board()
    board.known(tmp_path).look()
    for day in range(1, 30, 6):
        board.boots(NOW_S - day * DAY_S)
        known = board.known(tmp_path)
        assert (known.unix_s, known.look().surely_s) == (board.reading.unix_s, NOW_S + 60.0 * (day // 6))
        board.passes(60.0)
        assert known.look().surely_s == NOW_S + 60.0 * (day // 6 + 1)
        board.passes(0.0)
        known._save(known.look())
    board.jumps(0.0, confirmed=True)
    assert known.look().surely_s == board.reading.unix_s


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"unix_s": "x", "uptime_s": 1, "boot": ""}', b"\xff", b"1e999"]
)
def test_a_spoilt_file_is_done_without(tmp_path: Path, content: bytes) -> None:
    """The clock is believed then, and kept again."""
    (tmp_path / "time.json").write_bytes(content)
    assert Board().known(tmp_path).unix_s == NOW_S
    assert b"1800000000" in (tmp_path / "time.json").read_bytes()


def test_the_machines_clocks(tmp_path: Path) -> None:
    """As the kernel tells them; what timesyncd set lately is confirmed, what it set long ago is not."""
    assert abs(read_clocks().unix_s - time.time()) < 60
    assert not read_clocks(tmp_path).confirmed
    mark = tmp_path / "run/systemd/timesync/synchronized"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert read_clocks(tmp_path).confirmed
    os.utime(mark, (time.time() - DAY_S, time.time() - DAY_S))
    assert not read_clocks(tmp_path).confirmed


@given(st.lists(st.tuples(st.floats(0, 3 * DAY_S), st.floats(-60 * YEAR_S, 60 * YEAR_S)), max_size=30))
def test_unconfirmed_time_never_runs_away(steps: list[tuple[float, float]]) -> None:
    """Whatever the wall clock does, one step of belief is at most the time that passed and a week, or it settled."""
    belief = Belief(NOW_S, 0.0, "boot")
    uptime_s = 0.0
    for passed_s, off_s in steps:
        uptime_s += passed_s
        reading = Reading(NOW_S + uptime_s + off_s, uptime_s, "boot", False)
        after = belief.after(reading)
        settled = belief.off_since_s is not None and uptime_s - belief.off_since_s >= SETTLED_S
        assert settled or abs(after.unix_s - belief.unix_s - passed_s) <= NEAR_S + 1
        assert (after.off_by_s is None) == (after.unix_s == reading.unix_s) or after.off_by_s == 0
        belief = after
