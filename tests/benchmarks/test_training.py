"""The comparison of training steps: contenders that do other work void it, and what was not measured says so."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.training.contenders import CONTENDERS
from benchmarks.training.figures import ratios
from benchmarks.training.job import Job
from benchmarks.training.race import TOLERANCE, ComparisonVoidError, Measured, check_losses, run_child
from benchmarks.training.summary import summarise
from benchmarks.training.table import Comparison, show

LOSSES = [0.7, 0.6]


def _measured(scale: float) -> Measured:
    return Measured([2 * scale, scale], [int(1000 * scale)] * 2, [0.4 * scale, 0.1 * scale], [], LOSSES)


@pytest.mark.parametrize("other", [[0.7, 0.6 + 2 * TOLERANCE], [0.7, math.nan], [0.7], [0.7, 0.6, 0.5]])
def test_other_work_voids_the_comparison(other: list[float]) -> None:
    """Losses that differ, are no numbers, or are more or fewer, are an error and not a row."""
    with pytest.raises(ComparisonVoidError):
        check_losses({"ours": LOSSES, "theirs": other})


def test_the_largest_loss_difference_is_told() -> None:
    """Rounding differs between contenders, and is let pass."""
    assert check_losses({"a": LOSSES, "b": [0.7, 0.60001], "c": LOSSES}) == pytest.approx(1e-5)


def test_ratios_are_taken_within_a_repetition() -> None:
    """A machine that was twice as slow in one repetition changes no ratio."""
    found = ratios({"trainer-ai_edge_litert": _measured(1), "torch": _measured(5)}, "trainer-ai_edge_litert")
    assert {key: ratio.times for key, ratio in found.items()} == {
        (metric, "torch"): pytest.approx(5) for metric in ("step_s", "process_s", "peak_rss_bytes")
    }
    assert [ratio.met for ratio in found.values()] == [True, False, True]


def test_what_is_not_installed_is_no_number(tmp_path: Path) -> None:
    """A missing contender keeps its row, without figures, and is null in JSON."""
    comparison = Comparison(Job(tmp_path, "head"), {"trainer-ai_edge_litert": _measured(1)}, {})
    printed = io.StringIO()
    show(comparison, Console(file=printed, width=160))
    row = next(line for line in printed.getvalue().splitlines() if line.startswith("| PyTorch"))
    assert "not installed" in row
    assert not any(character.isdigit() for character in row)
    assert comparison.to_dict()["measured"]["torch"] is None


def test_the_summary_counts_goals_by_row(tmp_path: Path) -> None:
    """One row for each Trainer that was measured; a goal tells how many rows reach it and how near the others come."""
    raced = {"trainer-ai_edge_litert": _measured(1), "torch": _measured(5), "keras": _measured(30)}
    slower = {**raced, "torch": _measured(2)}
    jobs = [Job(tmp_path, "head", model="lr"), Job(tmp_path, "all", model="pnn")]
    printed = io.StringIO()
    summarise([Comparison(jobs[0], raced, {}), Comparison(jobs[1], slower, {})], Console(file=printed, width=160))
    lines = printed.getvalue().splitlines()
    assert sum("ai-edge-litert" in line for line in lines) == 2
    assert not any("tflite-runtime" in line for line in lines)
    assert "step, PyTorch: 1 of 2 reach 4 times, from 2.0 to 5.0 times" in lines
    assert "step, Keras fit: 2 of 2 reach 20 times, from 30.0 to 30.0 times" in lines
    assert "process, Keras fit: 2 of 2 reach 15 times, from 30.0 to 30.0 times" in lines


@pytest.mark.slow
@pytest.mark.parametrize("model", ["din", "pnn"])
def test_contenders_train_the_same_model(model: str, tmp_path: Path) -> None:
    """Every installed contender, each in its own process, takes the same steps on a small model."""
    from benchmarks.training.prepare import prepare

    job = prepare(Job(tmp_path, "all", items=50, embedding_dim=4, steps=5, batch_size=8, model=model))
    keys = [key for key, contender in CONTENDERS.items() if contender.is_installed()]
    told = {key: run_child(job, 1, key) for key in keys}
    losses = {key: printed["losses"][key] for key, printed in told.items()}
    check_losses(losses)
    assert {len(values) for values in losses.values()} == {job.steps}
    assert all(printed["step_s"][key][0] > 0 and printed["peak_rss_bytes"] > 1e6 for key, printed in told.items())
