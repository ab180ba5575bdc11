"""The load benchmark's own parts: what its plot shows, and that a kill under load counts what it has to."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load.growth import exponents
from benchmarks.load.kills import Losses
from benchmarks.load.plot import save_plot


def test_the_plot_shows_every_point(tmp_path: Path) -> None:
    """Well-formed, with a dot and a number for each count of workers, none outside the picture."""
    save_plot(tmp_path / "plot.svg", [(1, 100.0), (2, 190.0), (3, 240.0)], "answered a second")
    root = ET.parse(tmp_path / "plot.svg").getroot()  # noqa: S314 - our own file
    space = "{http://www.w3.org/2000/svg}"
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{space}circle")]
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert len(dots) == 3
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    assert {"100", "190", "240"} <= {text.text for text in root.iter(f"{space}text")}


def test_any_loss_is_told() -> None:
    """Kills, and what was asked and given, are no losses; everything else is."""
    fine = Losses(kills=3, contributions=5, reports=5, questions=9, answered=8)
    assert fine.clean
    for name in ("lost_samples", "repeated_samples", "lost_reports", "repeated_reports", "left_in_outboxes"):
        assert not replace(fine, **{name: 1}).clean


def test_growth_is_told_by_its_exponent() -> None:
    """A cost that doubles with the devices grows by one, a constant one by nothing; what was not measured has none."""
    rows = [
        {"devices": n, "connect_s": 0.01 * n, "workers_ms": 2.0, "broker_ms": n**0.5, "client_ms": 0.0, "all_ms": 1.0}
        | {"while_asking_per_s": 1e4 / n}
        for n in (100, 1_000, 10_000)
    ]
    found = exponents(rows)
    assert found == pytest.approx(
        {"connect_s": 1.0, "workers_ms": 0.0, "broker_ms": 0.5, "all_ms": 0.0, "while_asking_per_s": -1.0}, abs=1e-9
    )
