"""What an update costs a device beside its download: `taskset -c 3 python -m benchmarks.updates`.

A release of this checkout, whose dependencies are this environment's (`tests.edge.releases`), is signed, checked and
installed. A board's own bundle takes longer to install: it unpacks all dependencies.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

from cloud_broker.releases.repository import ReleaseRepository
from edge.updates.release_install import Installer
from edge.updates.release_state import ReleaseFolder
from tests.edge.releases import bundle

DISTRIBUTIONS = ("tuf", "securesystemslib", "urllib3")
_STARTS = 7
# A device has no `cryptography`: signatures are then checked in Python.
_WITHOUT = """
import sys
sys.modules["cryptography"] = None
from edge.updates.release_trust import main
code = main(sys.argv[1:])
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        sys.stderr.write(line.split()[1])
sys.exit(code)
"""


def main() -> None:
    """Measure, and print."""
    for name in DISTRIBUTIONS:
        files = metadata.files(name) or []
        size_bytes = sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).exists())
        print(f"{name:20} {size_bytes / 1e6:6.2f} MB installed")
    with tempfile.TemporaryDirectory() as temporary:
        _check(Path(temporary))
        _install(Path(temporary))


def _check(folder: Path) -> None:
    repository = ReleaseRepository.create(folder / "releases", folder / "keys")
    name = repository.add(bundle(folder / "bundle.tar", "0.2.0"), version="0.2.0")
    repository.publish()
    (folder / "metadata").write_bytes(repository.metadata())
    (folder / "trust").mkdir()
    arguments = [str(folder / "trust"), str(repository.root_path), str(folder / "metadata"), name, "0.0"]
    began_s = time.perf_counter()
    done = subprocess.run([sys.executable, "-I", "-c", _WITHOUT, *arguments], check=True, capture_output=True)
    elapsed_s, peak = time.perf_counter() - began_s, int(done.stderr)
    print(f"{'metadata':20} {(folder / 'metadata').stat().st_size:6} bytes")
    print(f"{'checking them':20} {elapsed_s:6.2f} s, {peak * 1024 / 1e6:.0f} MB at most, in a process of its own")


def _install(folder: Path) -> None:
    releases, name = ReleaseFolder(folder / "state"), "r1-" + "0" * 12
    began_s = time.perf_counter()
    Installer(releases, sys.executable, threading.Event()).install(folder / "bundle.tar", name)
    print(f"{'installing':20} {time.perf_counter() - began_s:6.2f} s")
    print(f"{'handing over':20} {_start_s('edge.updates.handover') - _start_s('edge'):6.2f} s of each start")


def _start_s(module: str) -> float:
    times_s = []
    for _ in range(_STARTS):
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", module, "--help"], check=True, stdout=subprocess.DEVNULL)
        times_s.append(time.perf_counter() - began_s)
    return min(times_s)


if __name__ == "__main__":
    main()
