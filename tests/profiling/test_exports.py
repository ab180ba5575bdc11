"""Exports say what the rounds say, in the formats' own rules; made-up runs are marked as such everywhere."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import profiling
from profiling.export_csv import to_csv
from profiling.export_json import to_dict
from profiling.export_markdown import to_markdown
from profiling.export_perfetto import to_perfetto
from profiling.export_prometheus import to_prometheus
from profiling.metrics import METRICS, by_phase
from profiling.report import write_report
from profiling.run import Run, load_run
from profiling.synthetic import ORIN_NANO, PI_5, synthetic_round, write_synthetic_run
from profiling.timeline import thin
from tests.profiling.samples import record, write_run
from tests.profiling.test_report import _Page

SCHEMA = json.loads((Path(profiling.__file__).parent / "report.schema.json").read_text())


@pytest.fixture
def synthetic(tmp_path: Path) -> Run:
    """A made-up run of six devices."""
    return load_run(write_synthetic_run(tmp_path / "pi5", PI_5))


def test_csv() -> None:
    """One line a phase and one a round; every number comes back, and what was not measured is empty."""
    rounds = [record("a"), record("b, quoted", energy=False)]
    rows = list(csv.DictReader(io.StringIO(to_csv(rounds))))
    assert len(rows) == 2 * 8
    for row, (name, phase) in zip(rows, by_phase(rounds[0]).items(), strict=False):
        assert row["phase"] == name
        assert float(row["elapsed_s"]) == phase.elapsed_s
        assert float(row["energy_mj"]) == phase.energy_mj
    assert rows[-1]["device"] == "b, quoted"
    assert rows[-1]["energy_mj"] == ""


def test_csv_has_counters() -> None:
    """Counters become columns; a phase without one has an empty cell."""
    whole = record()
    phases = (replace(whole.phases[0], counters={"io_read_bytes": 4096.0}), *whole.phases[1:])
    rows = list(csv.DictReader(io.StringIO(to_csv([replace(whole, phases=phases)]))))
    assert rows[0]["io_read_bytes"] == "4096.0"
    assert rows[1]["io_read_bytes"] == ""


_LINE = re.compile(r'[a-z_]+\{([a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+\} -?\d+(\.\d+)?(e[+-]?\d+)?')


@given(st.text(min_size=1, max_size=20))
def test_prometheus_lines_are_well_formed(device: str) -> None:
    """Whatever a device is called, every line is a comment or a sample by the text format's grammar."""
    for line in to_prometheus([record(device)]).split("\n")[:-1]:
        assert line.startswith("# ") or _LINE.fullmatch(line), line


def test_prometheus_values() -> None:
    """The last round of a device counts, in base units; energy carries kind and scope, and may be absent."""
    text = to_prometheus([record("a"), record("a", scale=2.0)])
    whole = record("a", scale=2.0).totals
    assert f'coda_round_elapsed_seconds{{device="a",phase="round"}} {whole.elapsed_s:.10g}' in text
    assert whole.energy_mj is not None
    labels = 'device="a",phase="round",kind="measured",scope="cpu-package"'
    assert f"coda_round_energy_joules{{{labels}}} {whole.energy_mj / 1000:.10g}" in text
    assert 'coda_round_flagged{device="a"} 0' in text
    assert "coda_round_energy_joules{" not in to_prometheus([record(energy=False)])


def test_json_fits_its_schema(synthetic: Run, tmp_path: Path) -> None:
    """The statistics of a made-up and of an unmeasured run fit the documented schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for run in (synthetic, load_run(write_run(tmp_path / "plain"))):
        values = json.loads(json.dumps(to_dict(run)))
        jsonschema.Draft202012Validator(SCHEMA).validate(values)
    found = {(e["metric"], e["phase"]): e for e in to_dict(synthetic)["estimates"]}
    assert found["elapsed_s", "tune"]["low"] <= found["elapsed_s", "tune"]["median"]
    assert len(found) == len(METRICS) * 8


def test_perfetto(synthetic: Run) -> None:
    """Slices have the phases' times and counter tracks the samples, on one clock, in whole microseconds' order."""
    events = json.loads(to_perfetto(synthetic.recordings))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 6 * 7
    first = synthetic.recordings[0].phases[4]
    tune = next(event for event in slices if event["name"] == "tune" and event["pid"] == 1)
    assert (tune["ts"], tune["dur"]) == pytest.approx((first.begin_s * 1e6, (first.end_s - first.begin_s) * 1e6))
    tracks = {event["name"] for event in events if event["ph"] == "C"}
    assert tracks == {"power_mw pi5-pmic+community", "cpu_share", "rss_bytes"}
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert all("synthetic" in name for name in names)


def test_markdown(synthetic: Run, tmp_path: Path) -> None:
    """Tables have equal widths in cells, medians carry intervals, and what is missing is listed."""
    text = to_markdown(synthetic)
    for block in text.split("\n\n"):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    assert "**Synthetic data" in text
    assert "measured-corrected, scope board-input, ±10% at 95%" in text
    assert re.search(r"\| round \| [\d.]+\u00a0s \[[\d.]+\u00a0s, [\d.]+\u00a0s\]", text)
    plain = to_markdown(load_run(write_run(tmp_path / "plain")))
    assert "- energy: rapl: no RAPL package domain" in plain
    assert "Synthetic" not in plain


def test_synthetic_energy_comes_from_its_samples() -> None:
    """A made-up round's energy is what its made-up power integrates to, near idle plus work over its length."""
    whole, recording = synthetic_round(ORIN_NANO, "device-1", 1)
    (energy,) = whole.energies
    assert recording.synthetic
    assert energy.gross_mj is not None
    assert energy.u95_mj is not None
    assert 4700 * energy.window_s < energy.gross_mj < 6100 * energy.window_s
    assert energy.net_mj is not None
    assert 0 < energy.net_mj < energy.gross_mj
    assert whole.totals.energy_mj == energy.gross_mj
    assert synthetic_round(ORIN_NANO, "device-1", 1)[0] == whole


def test_report_of_a_recorded_run(synthetic: Run) -> None:
    """The page shows power, processors and memory over time, the sensors' table, and that all of it is made up."""
    page = _Page(write_report(synthetic.path).read_text(encoding="utf-8"))
    text = " ".join(page.text)
    assert "Synthetic recordings." in text
    assert "power (W), pi5-pmic+community" in text
    assert "processors busy" in text
    assert "A round draws" in text
    assert "known to ±" in text
    assert "measuring itself" in text


def test_flagged_rounds_are_shown(tmp_path: Path) -> None:
    """A round that was throttled is named, with its flags."""
    run_dir = write_run(tmp_path / "run", energy=True)
    rounds = [replace(record(f"device-{i}"), flags=("throttled",) if i == 2 else ()) for i in range(4)]
    (run_dir / "rounds.jsonl").write_text("".join(json.dumps(r.to_dict()) + "\n" for r in rounds))
    text = " ".join(_Page(write_report(run_dir).read_text(encoding="utf-8")).text)
    assert "1 of 4 rounds must not be compared" in text
    assert "flagged throttled" in text


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1e6, 1e6)), min_size=1, max_size=3000))
def test_thinning_keeps_the_extremes(points: list[tuple[float, float]]) -> None:
    """However a series is thinned for the page, its lowest and highest value stay, and it stays bounded."""
    kept = thin(sorted(points), 100)
    assert len(kept) <= 102
    assert min(value for _, value in kept) == min(value for _, value in points)
    assert max(value for _, value in kept) == max(value for _, value in points)
