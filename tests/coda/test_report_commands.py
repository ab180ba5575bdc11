"""`coda report`: pages, formats of other tools, and what changed from one run to another."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from profiling.diff import diff
from profiling.run import load_run
from profiling.synthetic import ORIN_NANO, PI_5, write_synthetic_run
from tests.coda.running import ROOT, coda_here


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made-up runs: a Pi 5, the same with a slower tuning phase, and an Orin Nano."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "pi": write_synthetic_run(folder / "pi", PI_5, devices=8),
        "slow": write_synthetic_run(folder / "slow", PI_5, devices=8, slower=1.5),
        "orin": write_synthetic_run(folder / "orin", ORIN_NANO, devices=8),
    }


def test_one_run_makes_its_page(runs: dict[str, Path], tmp_path: Path) -> None:
    """The page lies beside the run, or where one says; the command's name is not needed and may be given."""
    assert coda_here("report", str(runs["pi"])).stdout == f"report: {runs['pi'] / 'report.html'}\n"
    for words in (("report",), ("report", "write")):
        done = coda_here(*words, "--out", str(tmp_path / "page.html"), "--json", str(runs["pi"]))
        assert json.loads(done.stdout)["report"] == str(tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text() == (runs["pi"] / "report.html").read_text()


def test_several_runs_make_a_comparison(runs: dict[str, Path], tmp_path: Path) -> None:
    """Runs side by side on one page that names them all."""
    out = tmp_path / "both.html"
    done = coda_here("report", *(str(path) for path in runs.values()), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"runs": [str(path) for path in runs.values()], "report": str(out)}
    assert "3 runs compared" in out.read_text()


def _is_markdown(text: str) -> None:
    assert text.startswith("## CoDA Edge on made-up rounds")


def _is_csv(text: str) -> None:
    assert {row["device"] for row in csv.DictReader(text.splitlines())} == {f"device-{n}" for n in range(1, 9)}


def _is_json(text: str) -> None:
    schema = json.loads((ROOT / "profiling" / "report.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema)


def _is_prometheus(text: str) -> None:
    assert 'coda_round_energy_joules{device="device-1",phase="tune",kind="measured-corrected"' in text


def _is_perfetto(text: str) -> None:
    events = json.loads(text)["traceEvents"]
    assert {event["pid"] for event in events} == set(range(1, 9))


@pytest.mark.parametrize(
    ("form", "check"),
    [
        ("md", _is_markdown),
        ("csv", _is_csv),
        ("json", _is_json),
        ("prometheus", _is_prometheus),
        ("perfetto", _is_perfetto),
    ],
)
def test_formats(runs: dict[str, Path], tmp_path: Path, form: str, check: Callable[[str], None]) -> None:
    """Each format goes to standard output alone, or to a file with the same content."""
    printed = coda_here("report", str(runs["pi"]), "--format", form)
    assert (printed.returncode, printed.stderr) == (0, "")
    check(printed.stdout)
    written = coda_here("report", str(runs["pi"]), "--format", form, "--out", str(tmp_path / "file"))
    assert written.stdout == ""
    assert (tmp_path / "file").read_text() == printed.stdout


def test_energies_from_raw_samples(runs: dict[str, Path], tmp_path: Path) -> None:
    """Records that lost their energies get them again from the raw samples; a run without samples is refused."""
    copy = tmp_path / "copy"
    shutil.copytree(runs["pi"], copy)
    before = coda_here("report", str(copy), "--format", "csv").stdout
    rows = [json.loads(line) for line in (copy / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        row["phases"] = [{**phase, "energy_mj": None, "energy_u95_mj": None} for phase in row["phases"]]
    (copy / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert coda_here("report", str(copy), "--format", "csv").stdout != before
    assert coda_here("report", str(copy), "--format", "csv", "--recompute").stdout == before
    shutil.rmtree(copy / "recordings")
    refused = coda_here("report", str(copy), "--recompute")
    assert (refused.returncode, "no round has raw samples" in refused.stderr) == (1, True)


def test_diff_says_what_got_worse(runs: dict[str, Path]) -> None:
    """A slower tuning phase is found, by how much and where, in words and as JSON."""
    pair = (str(runs["pi"]), str(runs["slow"]))
    printed = coda_here("report", "diff", *pair)
    assert printed.returncode == 0, printed.stderr
    assert f"Against {pair[0]}, {pair[1]} takes" in printed.stdout
    assert "| worse | tune |" in printed.stdout
    found = json.loads(coda_here("report", "diff", *pair, "--json").stdout)
    assert found == json.loads(json.dumps(diff(load_run(runs["pi"]), load_run(runs["slow"])).to_dict()))
    [wall] = [change for change in found["changes"] if change["metric"] == "elapsed_s"]
    assert wall["verdict"] == "worse"
    assert 0.1 < wall["relative"] < 0.4


def test_diff_refuses_to_rank_energies_of_different_kinds(runs: dict[str, Path]) -> None:
    """A corrected and a measured energy stand side by side without a verdict."""
    printed = coda_here("report", "diff", str(runs["pi"]), str(runs["orin"]))
    assert "energies do not compare" in printed.stdout
    assert "Warning: different boards" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("report", "{pi}", "--format", "pdf"), 2, "use html, md, csv, json, prometheus, perfetto"),
        (("report", "{pi}", "{slow}", "--format", "csv"), 2, "prints one run"),
        (("report", "{pi}", "--format", "md", "--json"), 2, "takes no --json"),
        (("report", "diff", "{pi}"), 2, "after"),
        (("report", "diff", "{pi}", "{tmp}/none"), 1, "no such run directory"),
        (("report", "{tmp}/bare", "--format", "perfetto"), 1, "no raw samples"),
    ],
)
def test_what_cannot_be_done_is_told(
    runs: dict[str, Path], tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """A format that does not fit and a run that is not there are each told without a traceback."""
    shutil.copytree(runs["pi"], tmp_path / "bare", ignore=shutil.ignore_patterns("recordings"))
    done = coda_here(*(word.format(**runs, tmp=tmp_path) for word in arguments))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
