"""Bytes written by day, and waits that grow from crash to crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge.backoff import MOST_S, STEADY_S, Restarts, delay_s
from edge.storage.wear import KEPT_DAYS, Wear, load_days, mean_per_day, written_bytes

DAY_S = 86400.0


class Count:
    """A number that a test sets."""

    def __init__(self, value: float = 0) -> None:
        self.value = value

    def __call__(self) -> float:
        """The number."""
        return self.value


def test_bytes_are_counted_by_day_from_run_to_run(tmp_path: Path) -> None:
    """What a process wrote before it is counted from its own zero; the oldest days go."""
    path, now = tmp_path / "wear.json", Count()
    for day in range(KEPT_DAYS + 5):
        now.value = day * DAY_S
        for run_bytes in (300, 700):
            written = [4096]
            wear = Wear(path, now, lambda written=written: written[0])  # type: ignore[misc]
            written[0] += run_bytes
            wear.settle()
    days = load_days(path)
    assert len(days) == KEPT_DAYS
    assert set(days.values()) == {1000}
    assert min(days) == "1970-01-06"


def test_what_the_kernel_counts_of_this_process(disk_path: Path) -> None:
    """Bytes that really went to a disk are counted; a kernel that does not say gives no number."""
    before = written_bytes()
    if before is None:
        pytest.skip("this kernel keeps no /proc/self/io")
    with (disk_path / "file").open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    after = written_bytes()
    assert after is not None
    if after == before:
        pytest.skip("the tests' folder is in memory")
    assert after - before >= 1 << 20
    assert written_bytes(disk_path) is None
    assert Wear(disk_path / "wear.json", Count(), lambda: None).settle() == {}


def test_a_mean_is_over_whole_days() -> None:
    """Today is not over; where it is all that is known it has to do."""
    assert mean_per_day({}) is None
    assert mean_per_day({"2026-01-01": 7}) == 7
    assert mean_per_day({"2026-01-01": 10, "2026-01-02": 20, "2026-01-03": 1}) == 15


@pytest.mark.parametrize("content", ["", "[]", '{"2026-01-01": "x"}', '{"a": null}'])
def test_a_spoilt_count_begins_anew(tmp_path: Path, content: str) -> None:
    """It stops nothing."""
    (tmp_path / "wear.json").write_text(content)
    assert load_days(tmp_path / "wear.json") == {}


def test_waits_grow_while_runs_end_badly(tmp_path: Path) -> None:
    """Each twice as long as the one before, up to ten minutes, and for ever; a long run begins the count anew."""
    clock = Count(1000.0)
    waits = []
    for _ in range(12):
        _, wait_s = Restarts(tmp_path, clock).begin()
        waits.append(wait_s)
        clock.value += wait_s + 1.0
    assert waits == [0, 0, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600]
    clock.value += STEADY_S
    assert Restarts(tmp_path, clock).begin() == (1, 0.0)
    Restarts(tmp_path, clock).begin()
    assert Restarts(tmp_path, clock, "another boot").begin() == (0, 0.0)
    assert delay_s(10**6) == MOST_S


def test_an_orderly_end_is_no_crash(tmp_path: Path) -> None:
    """The next run waits for nothing; without a folder nothing is counted, and a spoilt file is done without."""
    for _ in range(4):
        Restarts(tmp_path, Count()).begin()
    Restarts(tmp_path, Count()).ended_well()
    assert Restarts(tmp_path, Count()).begin() == (0, 0.0)
    assert Restarts(None).begin() == (0, 0.0)
    (tmp_path / "starts.json").write_text(json.dumps({"crashes": "many"}))
    assert Restarts(tmp_path, Count()).begin() == (0, 0.0)
