"""Control groups: the kernel's own where this machine lets one be made, and file trees for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiling.counters import cgroup_folder
from tests.hardware.trees import put

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import json, os, subprocess, sys, time
from profiling.machine import Machine
from profiling.window import Profiler
machine = Machine()
profiler = Profiler(machine=machine)
burn = "import time\\nwhile time.process_time() < 0.6: sum(range(2000))"
with profiler.phase("warm up"):
    pass
with profiler.phase("work"):
    child = subprocess.Popen([sys.executable, "-S", "-c", burn])
    block = bytearray(96 << 20)
    block[::4096] = b"x" * len(block[::4096])
    end_s = time.process_time() + 0.6
    while time.process_time() < end_s:
        sum(range(2000))
    child.wait()
    del block
with profiler.phase("rest"):
    time.sleep(0.01)
outside_s = time.process_time() - sum(p.cpu_user_s + p.cpu_system_s for p in profiler.phases)
counters = [p.counters for p in profiler.phases]
print(json.dumps({
    "outside_s": outside_s,
    "group_s": [c["cgroup_cpu_user_s"] + c["cgroup_cpu_system_s"] for c in counters],
    "peaks": [p.cgroup_peak_bytes for p in profiler.phases],
    "reasons": machine.reasons,
}))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group of version 2, empty."""
    mounts = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    mount = next((path for path in mounts if (path / "cgroup.controllers").exists()), None)
    if mount is None:
        pytest.skip("no control groups of version 2 are mounted")
    folder = mount / f"coda-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


def _run_in(group: Path) -> dict[str, object]:
    join = f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'
    command = ["sh", "-c", join, sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode and "cgroup.procs" in done.stderr:
        pytest.skip(f"no process can join a control group here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_processor_time_of_a_real_group(group: Path) -> None:
    """A phase's processor time of the group holds that of its children, and agrees with the kernel's file within 2%."""
    said = _run_in(group)
    lines = (group / "cpu.stat").read_text().split()
    counted_s = int(lines[lines.index("usage_usec") + 1]) / 1e6
    group_s, outside_s = said["group_s"], said["outside_s"]
    assert isinstance(group_s, list)
    assert isinstance(outside_s, float)
    assert group_s[1] > 1.2
    assert sum(group_s) == pytest.approx(counted_s - outside_s, rel=0.02)


def test_peak_memory_of_a_real_group(group: Path) -> None:
    """The group's peak is that of each phase, and reset between them."""
    if not (group / "memory.peak").exists():
        pytest.skip("the memory controller is not one of version 2 here (see cgroup.controllers)")
    said = _run_in(group)
    reasons, peaks = said["reasons"], said["peaks"]
    assert isinstance(reasons, dict)
    assert isinstance(peaks, list)
    if "cgroup_peak" in reasons:
        pytest.skip(reasons["cgroup_peak"])
    assert peaks[1] > 96 << 20
    assert peaks[2] < peaks[1] - (64 << 20)


@pytest.mark.parametrize(
    ("mount", "path", "files", "is_found"),
    [
        ("sys/fs/cgroup", "/user.slice", ["cpu.stat"], True),
        ("sys/fs/cgroup/unified", "/user.slice", ["cpu.stat"], True),
        ("sys/fs/cgroup", "/", ["cpu.stat", "cgroup.events"], True),
        ("sys/fs/cgroup", "/", ["cpu.stat"], False),
        ("sys/fs/cgroup", "/user.slice", [], False),
    ],
)
def test_where_the_group_is(tmp_path: Path, mount: str, path: str, files: list[str], is_found: bool) -> None:
    """Version 2 alone and beside version 1; a container's root is a group, the machine's own root is none."""
    put(tmp_path, "proc/self/cgroup", f"4:memory:/elsewhere\n0::{path}")
    for name in files:
        put(tmp_path, f"{mount}{path.rstrip('/')}/{name}", "usage_usec 5")
    assert (cgroup_folder(tmp_path) is not None) == is_found
