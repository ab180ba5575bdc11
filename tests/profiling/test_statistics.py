"""Intervals hold what they promise, tests keep their level, and a diff finds what is there and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.comparison import diff_markdown, headline, render_comparison, write_comparison
from profiling.diff import diff
from profiling.energy_record import EnergySource
from profiling.metrics import METRICS, ROUND, by_phase
from profiling.record import RoundRecord
from profiling.run import Run, load_run
from profiling.statistics import estimate, holm, median_interval, paired_p, settled, unpaired_p
from profiling.synthetic import ORIN_NANO, PI_5, write_synthetic_run
from tests.profiling.samples import record
from tests.profiling.test_report import _Page


def _run(path: str, scales: list[float], energy: bool = True, prefix: str = "device") -> Run:
    rounds = [record(f"{prefix}-{i}", scale, energy) for i, scale in enumerate(scales)]
    return Run(Path(path), {"schema_version": 1, "devices": []}, tuple(rounds))


def test_interval_covers_the_median() -> None:
    """Over 300 samples of 15 from a skewed distribution, the interval holds the true median about 95% of the time."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        low, high = median_interval(rng.exponential(1.0, 15).tolist())
        hits += low <= np.log(2) <= high
    assert 0.90 <= hits / 300 <= 1.0


def test_paired_test_is_exact() -> None:
    """Eight equal signs have p = 2/256; opposite signs that cancel have p = 1; no difference at all has p = 1."""
    assert paired_p([1.0, 2, 3, 4, 5, 6, 7, 8]) == pytest.approx(2 / 256)
    assert paired_p([1.0, -1.0, 2.0, -2.0]) == 1
    assert paired_p([0.0] * 6) == 1
    assert paired_p([1.0] * 20) < 0.001


def test_unpaired_test() -> None:
    """Apart it finds a difference, mixed it does not, and equal values give no difference."""
    assert unpaired_p([1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]) < 0.01
    assert unpaired_p([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]) > 0.3
    assert unpaired_p([5.0] * 5, [5.0] * 5) == 1


def test_level_of_the_tests() -> None:
    """Where nothing differs, p falls under 0.05 in about one of twenty cases, not more."""
    rng = np.random.default_rng(3)
    paired = [paired_p(rng.normal(size=10).tolist()) < 0.05 for _ in range(400)]
    unpaired = [unpaired_p(rng.normal(size=8).tolist(), rng.normal(size=8).tolist()) < 0.05 for _ in range(60)]
    assert np.mean(paired) <= 0.08
    assert np.mean(unpaired) <= 0.15


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm(p_values: list[float]) -> None:
    """Adjusted values are never smaller, never above one, and keep the order."""
    adjusted = holm(p_values)
    assert all(p - 1e-12 <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_warm_up_is_left_out() -> None:
    """A device's first round goes where it has more; a device with one round keeps it."""
    rounds = [
        replace(record("a"), round_id="1"),
        replace(record("a"), round_id="2"),
        replace(record("b"), round_id="3"),
    ]
    assert [r.round_id for r in settled(rounds)] == ["2", "3"]
    assert settled(rounds, warm_up=0) == rounds


def test_estimates() -> None:
    """Few rounds give a median without an interval; none give nothing; the round is the sum of its phases."""
    energy = METRICS[-1]
    assert estimate([record(energy=False)], energy).median is None
    few = estimate([record(), record(scale=2)], METRICS[0])
    assert (few.rounds, few.low) == (2, None)
    many = estimate([record(scale=1 + i / 10) for i in range(9)], METRICS[0])
    assert many.low is not None
    assert many.high is not None
    assert many.median is not None
    assert many.low <= many.median <= many.high
    parts = by_phase(record())
    assert parts[ROUND].elapsed_s == pytest.approx(sum(p.elapsed_s for n, p in parts.items() if n != ROUND))


def test_diff_finds_what_is_slower() -> None:
    """A run in which every device takes a fifth longer is worse in time and energy, and the phase is named."""
    scales = [1.0, 1.02, 0.97, 1.05, 0.99, 1.01, 1.03, 0.98]
    found = diff(_run("a", scales), _run("b", [scale * 1.2 for scale in scales]))
    assert found.paired
    assert {"elapsed_s", "cpu_s", "energy_mj"} <= {change.metric for change in found.worse}
    assert not {"mqtt_up_bytes", "mqtt_down_bytes"} & {change.metric for change in found.worse}
    assert found.changes[0].phases[0][0] == "tune"
    assert headline(found, "a", "b").startswith("Against a, b takes 20% more wall time")
    assert json.loads(json.dumps(found.to_dict()))["paired"]


def test_diff_of_equal_runs() -> None:
    """A run against itself, and against one that differs by noise, has no significant change."""
    scales = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.01]
    same = diff(_run("a", scales), _run("b", scales))
    noise = diff(_run("a", scales), _run("b", scales[::-1], prefix="other"))
    assert not noise.paired
    for found in (same, noise):
        assert {change.verdict for change in found.changes} == {"no significant change"}
    assert "neither significantly more nor less" in headline(same, "a", "b")


def test_diff_of_too_few_rounds() -> None:
    """Seven pairs cannot be significant once six costs are looked at, and energy that is missing is called so."""
    found = diff(_run("a", [1] * 7, energy=False), _run("b", [9] * 7))
    verdicts = {change.metric: change.verdict for change in found.changes}
    assert verdicts["elapsed_s"] == "too few rounds to tell"
    assert headline(found, "a", "b") == "Too few rounds to tell whether b costs more or less than a"
    assert verdicts["energy_mj"] == "not measured"


def test_energies_of_different_kinds_are_not_ranked() -> None:
    """Energy measured on one side and modelled on the other gets no change, no verdict and no chart."""
    first, second = _run("a", [1, 1.1, 1.2, 1.3, 1.4]), _run("b", [3, 3.1, 3.2, 3.3, 3.4])
    modelled = EnergySource("modelled", "modelled", "board-input")
    second = replace(second, rounds=tuple(replace(r, energy_source=modelled) for r in second.rounds))
    change = diff(first, second).changes[-1]
    assert change.metric == "energy_mj"
    assert "one is measured, the other modelled" in change.verdict
    assert change.relative is None
    assert change.p is None
    text = " ".join(_Page(render_comparison([first, second])).text)
    assert "Not compared:" in text


def test_circumstances_are_warned_of() -> None:
    """Another board, governor or software, and flagged rounds, are named before any number."""
    first, second = _run("a", [1] * 4), _run("b", [1] * 4)

    def changed(r: RoundRecord) -> RoundRecord:
        board = {**r.board, "kind": "pi-4b"}
        return replace(r, board=board, flags=("throttled",), conditions={"governor": "powersave"})

    second = replace(second, rounds=tuple(changed(r) for r in second.rounds))
    warnings = " ".join(diff(first, second).warnings)
    assert "different boards: pi-5 against pi-4b" in warnings
    assert "different governors: None against powersave" in warnings
    assert "4 rounds of the second run are flagged: throttled" in warnings
    assert not diff(first, second).paired  # a device with another board is no longer itself


def test_comparison_page(tmp_path: Path) -> None:
    """Three made-up runs give one whole page whose headings say which is slower, and Markdown that says the same."""
    for name, board, slower in (("pi", PI_5, 1.0), ("slow", PI_5, 1.5), ("orin", ORIN_NANO, 1.0)):
        write_synthetic_run(tmp_path / name, board, 8, slower)
    runs = [load_run(tmp_path / name) for name in ("pi", "slow", "orin")]
    html = write_comparison(runs, tmp_path / "compare.html").read_text(encoding="utf-8")
    text = " ".join(_Page(html).text)
    assert "Against pi, slow takes" in text
    assert "more wall time" in text
    assert "different boards: pi-5 against jetson-orin-nano" in text
    assert "Synthetic recordings." in text
    markdown = diff_markdown(diff(runs[0], runs[1]), "pi", "slow")
    assert "| wall time |" in markdown
    assert "| worse | tune |" in markdown
    with pytest.raises(ValueError, match="at least two runs"):
        render_comparison(runs[:1])
