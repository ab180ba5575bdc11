"""The bundle of Raspberry Pi OS under QEMU user emulation: installed as on a first boot, then a device's life.

Nothing but the bundle's own wheels is imported by the emulated Python: no checkout, no other package. Times and
energies are the host's, and what is reported says that it was emulated.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.client import Client
from edge.config import ApiConfig
from edge.feedback.labelling import EventRules
from hardware.bundle.boards import targets
from hardware.bundle.build import build, own_wheel
from profiling.record import RoundRecord
from protocol.recipe import Recipe
from tests.edge.samples import samples
from tests.end_to_end.conftest import Device, Event, cloud, device, model_files
from tests.hardware.arm64_root import emulator_command, missing_tools, python_command

__all__ = ["cloud", "device", "model_files"]

_FOLDER = os.environ.get("CODA_ARM64_ROOT")
_WAIT_S = 120.0  # an emulated processor is slow

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.skipif(not _FOLDER, reason="CODA_ARM64_ROOT names no arm64 root: make one with make test-arm64"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {' '.join(missing_tools())}"),
]


@dataclass(frozen=True)
class Board:
    """An emulated board on which a bundle is installed."""

    folder: Path
    bundle: Path

    @property
    def python(self) -> list[str]:
        """How to run its Python, isolated: neither PYTHONPATH nor the working folder is looked at."""
        return [*emulator_command(Path(str(_FOLDER))), str(self.folder / "prefix/bin/python"), "-I"]

    def says(self, code: str) -> Any:
        """What a program prints there, as JSON."""
        done = subprocess.run([*self.python, "-c", code], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Build the bundle, and install it by the commands of the first boot's script."""
    folder, root = tmp_path_factory.mktemp("board"), Path(str(_FOLDER))
    [target] = targets("pi5", system="bookworm")
    with own_wheel() as own:
        built = build(target, own, folder / "dist")
    bundle = folder / "bundle"
    with tarfile.open(built.path) as tar:
        tar.extractall(bundle, filter="data")
    prefix = folder / "prefix"
    [pip] = bundle.glob("pip-*.whl")
    _run(*python_command(root), "-m", "venv", "--without-pip", prefix)
    install: list[str | Path] = [pip / "pip", "install", "--disable-pip-version-check", "--no-cache-dir", "--no-index"]
    install += ["--find-links", bundle, "--require-hashes", "--no-deps", "-r", bundle / "requirements.txt"]
    _run(*emulator_command(root), prefix / "bin/python", *install)
    return Board(folder, bundle)


def _run(*command: str | Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_is_all_there_and_small(board: Board) -> None:
    """The emulated Python finds every package in the board's own prefix, and they take 120 MB at most."""
    found = board.says(
        "import json, platform, ai_edge_litert.interpreter as runtime, edge, numpy, tuf, msgpack, zstandard, psutil; "
        "from hardware.board import identify; print(json.dumps([platform.machine(), identify().emulated, "
        "*(one.__file__ for one in (runtime, edge, numpy, tuf, msgpack, zstandard, psutil))]))"
    )
    assert found[:2] == ["aarch64", True]
    site = board.folder / "prefix/lib/python3.11/site-packages"
    assert all(Path(path).is_relative_to(site) for path in found[2:])
    installed_bytes = sum(path.lstat().st_size for path in (board.folder / "prefix").rglob("*"))
    assert installed_bytes <= 120e6


@contextmanager
def _serving(board: Board, device: Device) -> Iterator[Callable[[str], Event]]:
    """Its service, for as long as the body runs; gives a function that waits for an event."""
    command = [*board.python, "-m", "edge", "--config", str(device.file), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    heard: queue.Queue[Event | None] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            heard.put(json.loads(line))
        heard.put(None)

    def hear(name: str) -> Event:
        while (event := heard.get(timeout=_WAIT_S)) is not None:
            if event["event"] == name:
                return event
        assert process.stderr is not None
        pytest.fail(f"ended before {name}, with {process.wait()}: {process.stderr.read()}")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield hear
        process.terminate()
        assert process.wait(_WAIT_S) == 0, process.stderr.read()
    finally:
        process.kill()
        process.wait()
        listener.join()
        process.stdout.close()
        process.stderr.close()


def test_a_round_and_rankings_from_the_bundle_alone(
    board: Board, cloud: Callable[..., Any], device: Callable[..., Device], tmp_path: Path
) -> None:
    """A whole round against a real broker; then the personal model ranks, for apps on the board and beside it."""
    socket = tmp_path / "api.sock"
    one = device("arm64-bundle", timeout_s=_WAIT_S, api=ApiConfig(socket=socket), events=EventRules(keep_days=36500.0))
    one.add(samples(60))
    recipe = Recipe(steps=60, learning_rate=0.2, classifier_steps=40, match_samples=300)
    items = list(range(1, 40))
    with cloud(recipe) as service, _serving(board, one) as hear:
        record, version = RoundRecord.from_dict(hear("round")["record"]), hear("serving")["model"]
        app = f"from edge.client import Client; app = Client({str(socket)!r}, {_WAIT_S})"
        on_board = board.says(f"import json; {app}; print(json.dumps(app.rank({items})))")
        with Client(str(socket), _WAIT_S) as client:
            beside = client.rank(items)
        [reported] = service.reports("arm64-bundle")
    assert record.emulated == ("instruction set",)
    assert reported["emulated"] == ["instruction set"]
    assert record.board["machine"] == "aarch64"
    assert record.software["runtime"] == "ai_edge_litert"
    assert record.outcome.samples_matched > 0
    assert on_board == beside
    assert on_board["model"] == version
    assert sorted(on_board["items"]) == items
