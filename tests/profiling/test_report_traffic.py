"""What the bytes were for, as a page tells it."""

from __future__ import annotations

from profiling import units
from profiling.record import Outcome, RoundRecord
from profiling.report_traffic import purpose_table


def _record(**traffic: dict[str, int | None]) -> RoundRecord:
    return RoundRecord("r", "d", 1, 0.0, {}, {}, (), Outcome("kept-h0", "no gain", 1, 2, 3), traffic=traffic)


def _used(down: int, tcp: int | None) -> dict[str, int | None]:
    ways = ("up", "down")
    return {
        f"{depth}_{way}_bytes": tcp if depth == "tcp" else down for depth in ("payload", "mqtt", "tcp") for way in ways
    }


def test_means_by_purpose() -> None:
    """A round without a purpose counts as 0 of it, and what was not counted is not a number."""
    table = purpose_table([_record(model=_used(3000, None), query=_used(10, 20)), _record(query=_used(30, 40))])
    for mean in (1500, 20, 30):
        assert units.size(mean) in table
    assert units.MISSING in table


def test_rounds_of_an_earlier_version_have_no_table() -> None:
    """Nothing is made up."""
    assert purpose_table([_record()]) == ""
