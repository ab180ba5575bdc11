"""The units as systemd judges them, and as `coda edge unit` and `coda cloud unit` print them."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coda.announcing import announced
from coda.cli import app
from hardware.flash import firstboot
from tests.service.supervisor import listening

MOST_EXPOSURE = 2.5  # of 10
UNITS = {
    "edge": firstboot.SERVICE_UNIT,
    "cloud": (resources.files("cloud_broker") / "units/coda-cloud.service").read_text("utf-8"),
}
both = pytest.mark.parametrize("side", UNITS)


def _judged(tmp_path: Path, side: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of the unit, with a program that is on this machine."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / f"coda-{side}.service"
    path.write_text(UNITS[side].replace("/opt/coda/bin/coda", "/bin/true"))
    command = [analyze, *arguments, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges no unit that is not loaded; version 250 and later do")
    return done


@both
def test_systemd_finds_no_fault(tmp_path: Path, side: str) -> None:
    """Not even a key that it does not know, which it would pass over when it runs the unit."""
    done = _judged(tmp_path, side, "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@both
def test_the_sandbox_leaves_little_open(tmp_path: Path, side: str) -> None:
    """By systemd's own count."""
    done = _judged(tmp_path, side, "security", "--offline=yes", "--no-pager")
    found = re.search(rf"exposure level for coda-{side}.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSURE


@both
def test_the_unit_can_be_printed(side: str) -> None:
    """To be installed by hand."""
    result = CliRunner().invoke(app, [side, "unit"], catch_exceptions=False)
    assert result.stdout == UNITS[side]


def test_a_cloud_says_when_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before, and that it stops; every event goes where it went without a supervisor."""
    told: list[dict[str, Any]] = []
    with listening(tmp_path / "notify") as far:
        monkeypatch.setenv("NOTIFY_SOCKET", far.address)
        with announced(told.append) as tell:
            tell({"event": "trained"})
            tell({"event": "serving"})
            assert far.hear()["READY"] == "1"
        assert far.hear()["STOPPING"] == "1"
    assert [event["event"] for event in told] == ["trained", "serving"]


def test_what_the_unit_promises() -> None:
    """What the service's code builds on: its folders, its user, a watchdog, and restarts for ever."""
    lines = firstboot.SERVICE_UNIT.splitlines()
    for line in (
        "Type=notify",
        "ExecStart=/opt/coda/bin/coda edge run --config /var/lib/coda/device.toml",
        "DynamicUser=true",
        "StateDirectory=coda",
        "RuntimeDirectory=coda",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "IPAccounting=true",
    ):
        assert line in lines
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert not any(line.startswith("RuntimeDirectoryPreserve") for line in lines), "apps could not reach the socket"
