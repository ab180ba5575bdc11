"""Numbers for people: three significant digits, a unit, and a dash for what is not known."""

from __future__ import annotations

import pytest

from profiling import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.seconds(0.0351), "35.1 ms"),
        (units.seconds(2.3149), "2.31 s"),
        (units.seconds(180), "3.00 min"),
        (units.seconds(0), "0 ms"),
        (units.size(812), "812 B"),
        (units.size(0), "0 B"),
        (units.size(235_900), "236 kB"),
        (units.size(84_100_000), "84.1 MB"),
        (units.size(2.5e9), "2.50 GB"),
        (units.energy(850), "850 mJ"),
        (units.energy(6310), "6.31 J"),
        (units.energy(1_250_000), "1.25 kJ"),
        (units.change(-0.0021), "\u22120.002"),
        (units.change(0.0081), "+0.008"),
        (units.count(1718), "1\u202f718"),
        (units.count(40.125), "40.1"),
        (units.tick(units.size(25_000)), "25 kB"),
        (units.tick("0.50"), "0.5"),
    ],
)
def test_formats(text: str, expected: str) -> None:
    """Each kind of number reads as documented."""
    assert text.replace("\u00a0", " ") == expected


def test_none_is_a_dash() -> None:
    """Nothing known is never a zero."""
    formats = (units.seconds, units.size, units.energy, units.fraction, units.change, units.count)
    assert {write(None) for write in formats} == {units.MISSING}
