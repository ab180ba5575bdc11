"""The unit as systemd judges it, and as `coda edge unit` prints it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coda.cli import app
from hardware.flash import firstboot

MOST_EXPOSURE = 2.5  # of 10


def _judged(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of the unit, with a program that is on this machine."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / firstboot.SERVICE_UNIT_NAME
    path.write_text(firstboot.SERVICE_UNIT.replace("/opt/coda/bin/coda", "/bin/true"))
    command = [analyze, *arguments, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges no unit that is not loaded; version 250 and later do")
    return done


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """Not even a key that it does not know, which it would pass over when it runs the unit."""
    done = _judged(tmp_path, "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sandbox_leaves_little_open(tmp_path: Path) -> None:
    """By systemd's own count."""
    done = _judged(tmp_path, "security", "--offline=yes", "--no-pager")
    found = re.search(r"exposure level for coda-edge.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSURE


def test_the_unit_can_be_printed() -> None:
    """To be installed by hand where no card was flashed."""
    result = CliRunner().invoke(app, ["edge", "unit"], catch_exceptions=False)
    assert result.stdout == firstboot.SERVICE_UNIT


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
