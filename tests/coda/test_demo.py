"""The demo, end to end: real Mosquitto, real TLS, real processes, on synthetic ratings."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import jsonschema
import pytest

from profiling.run import load_run
from tests.coda.running import ROOT, coda, settled, start_coda
from tests.ports import free_port

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One short demo of two devices."""
    out = tmp_path_factory.mktemp("demo") / "run"
    done = coda("demo", "--data", "synthetic", "--devices", "2", "--quick", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_summary_names_what_ran(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Broker with version, TLS, runtime with version, and synthetic data marked as such."""
    summary = json.loads((run[0] / "summary.json").read_text())
    assert summary["broker"]["name"] == "mosquitto"
    assert re.fullmatch(r"\d+\.\d+\.\d+", summary["broker"]["version"])
    assert summary["broker"]["tls"] is True
    assert summary["runtime"]["name"] in {"ai_edge_litert", "tflite_runtime"}
    assert summary["runtime"]["version"]
    assert summary["data"]["synthetic"] is True
    assert all(model["parity"]["passed"] for model in summary["models"].values())


def test_synthetic_data_is_marked_in_every_output(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Nobody mistakes generated ratings for real ones: terminal, summary and report say so."""
    out, done = run
    assert "SYNTHETIC" in done.stderr
    assert json.loads(done.stdout)["data"]["synthetic"] is True
    assert "synthetic" in (out / "report.html").read_text().lower()


def test_every_device_did_a_whole_round(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Two devices matched, kept, judged and reported, within a device's memory, and each says what it moved."""
    summary = json.loads((run[0] / "summary.json").read_text())
    assert len(summary["devices"]) == 2
    for row in summary["devices"]:
        assert row["samples_matched"] > 0
        assert 0 < row["samples_kept"] <= row["samples_matched"]
        assert row["mqtt_down_bytes"] > row["payload_down_bytes"] > 0
        assert row["mqtt_up_bytes"] > row["payload_up_bytes"] > 0
        assert row["tcp_down_bytes"] > row["mqtt_down_bytes"]
        assert 0 < row["peak_rss_bytes"] < 90e6
        assert all(0 <= value <= 1 for value in row["auc"].values())
        assert row["energy_mj"] is not None or row["energy_reason"]


def test_records_fit_the_documented_schema(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Each line of rounds.jsonl is a RoundRecord with every phase in order."""
    schema = json.loads((ROOT / "profiling" / "round_record.schema.json").read_text())
    lines = (run[0] / "rounds.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        record = json.loads(line)
        jsonschema.validate(record, schema)
        names = list(dict.fromkeys(phase["name"] for phase in record["phases"]))
        assert names == ["sync", "query", "fetch", "classify", "tune", "gate", "report"]


def test_raw_samples_are_kept(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Each device's round has its raw samples, from which the report draws the round over time."""
    found = load_run(run[0])
    assert [recording.device for recording in found.recordings] == sorted(record.device for record in found.rounds)
    for recording in found.recordings:
        assert {series.name for series in recording.series} >= {"cpu_s", "rss_bytes", "mqtt_bytes"}
    assert "One round over time" in (run[0] / "report.html").read_text()


def test_the_report_needs_no_network(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """The page loads nothing from anywhere."""
    page = (run[0] / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']\s*(?:https?:)?//""", page)
    assert "<svg" in page


def test_the_report_can_be_written_again(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """`coda report` makes the same page from the files alone."""
    page = run[0] / "report.html"
    before = page.read_text()
    page.unlink()
    assert coda("report", str(run[0])).returncode == 0
    assert page.read_text() == before


def test_a_stranger_without_certificate_is_turned_away(tmp_path: Path) -> None:
    """`coda broker up` runs a broker that accepts only its fleet, and frees its port when it ends."""
    port = free_port()
    broker = start_coda("broker", "up", "--dir", str(tmp_path), "--port", str(port), "--device", "kiosk-1", "--json")
    try:
        assert broker.stdout is not None
        assert json.loads(broker.stdout.readline())["event"] == "listening"
        sub = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "#", "-W", "2"]
        assert (tmp_path / "certificates" / "devices" / "kiosk-1.key").stat().st_mode & 0o077 == 0
        if _exists(sub[0]):
            assert subprocess.run(sub, capture_output=True, check=False, timeout=20).returncode != 0
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.communicate(timeout=20)
    assert broker.returncode == 0
    assert _connects(port) is False


def test_interrupting_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C ends every child and closes the port."""
    out = tmp_path / "run"
    demo = start_coda("demo", "--data", "synthetic", "--devices", "2", "--out", str(out))
    assert demo.stderr is not None
    port = None
    for line in demo.stderr:
        if found := re.search(r"port (\d+)", line):
            port = int(found.group(1))
            break
    assert port is not None
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    # The kernel tells children of their parent's end after it has ended.
    settled(lambda: not _processes_naming(str(out)))
    assert _connects(port) is False


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _exists(program: str) -> bool:
    return any((Path(folder) / program).exists() for folder in os.environ["PATH"].split(os.pathsep))


def _processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found
