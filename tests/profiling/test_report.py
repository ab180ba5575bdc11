"""The report is one whole page that tells the run's findings, and refuses a broken run directory by name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from profiling.errors import RunError
from profiling.report import load_run, write_report
from tests.profiling.samples import record, summary, write_run

_VOID = {"meta", "line", "rect", "circle", "polygon", "br", "hr"}


class _Page(HTMLParser):
    """Checks that tags nest, and collects text and tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an open tag."""
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It must close the innermost open tag."""
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text outside the style."""
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def _write(run_dir: Path) -> tuple[_Page, str]:
    page = _Page(write_report(run_dir).read_text(encoding="utf-8"))
    return page, " ".join(page.text)


def _change(run_dir: Path, **values: Any) -> None:
    path = run_dir / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    """Tags nest, every coordinate is finite, and nothing is loaded from anywhere."""
    page, _ = _write(write_run(tmp_path / "run", energy=True))
    assert not [a for a in page.attributes if a[0] in ("src", "href", "xlink:href")]
    numbers = [v for n, v in page.attributes if n in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height")]
    assert numbers
    assert all(re.fullmatch(r"-?\d+(\.\d+)?|width=device-width.*", value) for value in numbers)
    assert "url(" not in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_findings(tmp_path: Path) -> None:
    """Headings state what was found, and the numbers are the run's."""
    run_dir = write_run(tmp_path / "run")
    rows = json.loads((run_dir / "summary.json").read_text())["devices"]
    gains = [row["auc"]["coda"] - row["auc"]["cloud"] for row in rows]
    up = sum(gain > 0 for gain in gains)
    _, text = _write(run_dir)
    assert f"{up} of 8 devices gain, {8 - up} lose" in text
    assert f"by {abs(sum(gains) / 8):.4f}" in text
    assert "47% of it goes to tune" in text
    assert "over MQTT, 97% of it in fetch" in text
    assert "mosquitto, 2.0.11, TLS" in text
    assert "trains as TensorFlow does in ai-edge-litert 2.3.0 (losses within 3e-07)" in text
    assert "NOT proven in tflite-runtime 2.14.0" in text


def test_unmeasured_is_named(tmp_path: Path) -> None:
    """Energy that was not measured is a dash with its reason, never a zero."""
    _, text = _write(write_run(tmp_path / "run"))
    assert "What could not be measured, and why" in text
    assert "no RAPL package domain in /sys/class/powercap" in text
    assert "0 mJ" not in text


def test_energy_with_its_source(tmp_path: Path) -> None:
    """Where energy was measured, its sensor, kind, scope and error bar stand beside it."""
    _, text = _write(write_run(tmp_path / "run", energy=True))
    assert "A round draws" in text
    assert "rapl, measured, scope cpu-package, ±5% at 95%" in text


def test_synthetic_and_emulated_are_marked(tmp_path: Path) -> None:
    """Synthetic data and emulated hardware each carry a banner."""
    run_dir = write_run(tmp_path / "run", synthetic=True)
    values = record().to_dict() | {"emulated": ["instruction set"]}
    (run_dir / "rounds.jsonl").write_text(json.dumps(values))
    _, text = _write(run_dir)
    assert "Synthetic data." in text
    assert "Emulated:  instruction set: times" in text
    assert "Synthetic data." not in _write(write_run(tmp_path / "real"))[1]


def test_what_the_system_counted(tmp_path: Path) -> None:
    """Context switches, stalls, storage and interface bytes of each phase are shown where they were counted."""
    run_dir = write_run(tmp_path / "run", devices=1)
    assert "What the system counted" not in _write(run_dir)[1]
    counted = {"context_switches_involuntary": 41.0, "stall_io_s": 0.25}
    whole = record()
    phases = tuple(replace(phase, counters=counted) for phase in whole.phases)
    (run_dir / "rounds.jsonl").write_text(json.dumps(replace(whole, phases=phases).to_dict()))
    _, text = _write(run_dir)
    assert "What the system counted meanwhile" in text
    assert "250\u00a0ms" in text
    assert "control group's CPU" not in text


def test_names_are_escaped(tmp_path: Path) -> None:
    """A device or data set with markup in its name stays text."""
    run_dir = write_run(tmp_path / "run", devices=1)
    evil = '<script>alert(1)</script>&"'
    row = json.loads((run_dir / "summary.json").read_text())["devices"][0] | {"device": evil, "reason": evil}
    _change(run_dir, devices=[row], data={"name": evil}, unmeasured={evil: evil})
    (run_dir / "rounds.jsonl").write_text(json.dumps(record(evil).to_dict()))
    _, text = _write(run_dir)
    assert "<script" not in (run_dir / "report.html").read_text(encoding="utf-8")
    assert evil in text


def test_optional_values_may_be_absent(tmp_path: Path) -> None:
    """The barest summary, without scores, rounds or means, still gives a page."""
    tmp_path.joinpath("summary.json").write_text(json.dumps({"schema_version": 1, "devices": [{"device": "a"}]}))
    tmp_path.joinpath("rounds.jsonl").write_text("")
    _, text = _write(tmp_path)
    assert "No device has a test AUC" in text
    assert "No round was recorded" in text
    tmp_path.joinpath("summary.json").write_text(json.dumps({"schema_version": 1, "devices": []}))
    _write(tmp_path)


def test_many_devices_and_equal_scores(tmp_path: Path) -> None:
    """A hundred devices keep the charts bounded; scores without spread do not break the axis."""
    run_dir = write_run(tmp_path / "run", devices=100)
    rows = [row | {"auc": {"cloud": 0.8, "local": 0.8, "coda": 0.8}} for row in summary(100)["devices"]]
    _change(run_dir, devices=rows)
    _, text = _write(run_dir)
    assert "60 further devices are in the table" in text
    assert "does not change mean test AUC: 0 of 100 devices gain" in text


def test_resumed_round_counts_both_passes(tmp_path: Path) -> None:
    """A phase that ran again after a restart adds up within its round."""
    run_dir = write_run(tmp_path / "run", devices=1)
    values = record().to_dict()
    values["phases"].insert(3, values["phases"][2])
    (run_dir / "rounds.jsonl").write_text(json.dumps(values))
    _, text = _write(run_dir)
    assert "1.20\u00a0s" in text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("summary.json", None, "summary.json: No such file"),
        ("rounds.jsonl", None, "rounds.jsonl: No such file"),
        ("summary.json", '{"schema_version": 1, "devices": [', "summary.json:1: not JSON, or cut short"),
        ("summary.json", "[]", "expected an object"),
        ("summary.json", '{"schema_version": 3}', "schema version 3, this program reads 1"),
        ("summary.json", '{"schema_version": 1}', "'devices' must be a list"),
        ("summary.json", '{"schema_version": 1, "devices": [{}]}', "name a 'device'"),
        ("summary.json", '{"schema_version": 1, "devices": [{"device": "a", "elapsed_s": "x"}]}', "elapsed_s must be"),
        ("summary.json", '{"schema_version": 1, "devices": [], "data": 3}', "data must be an object"),
        ("rounds.jsonl", '{"schema_version": 1, "round', "rounds.jsonl:1: not JSON, or cut short"),
        ("rounds.jsonl", '\n{"schema_version": 9}', "rounds.jsonl:2: round record: schema version 9"),
        ("rounds.jsonl", "\udcff", "not UTF-8 text"),
    ],
)
def test_broken_run(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    """A missing, cut or foreign file is refused with its name and line, and no page is left."""
    run_dir = write_run(tmp_path / "run")
    path = run_dir / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(RunError, match=message):
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()


def test_no_such_directory(tmp_path: Path) -> None:
    """A path that is no run directory says so."""
    with pytest.raises(RunError, match="no such run directory"):
        load_run(tmp_path / "absent")
