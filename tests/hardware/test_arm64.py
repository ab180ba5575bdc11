"""A device's round with the real aarch64 wheels under QEMU user emulation, against a real Mosquitto on this host.

It proves wheels, packaging and behaviour. Times and energies are the host's, and the record says that it was emulated.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiling.record import PHASES, RoundRecord
from protocol.recipe import Recipe
from tests.edge.samples import samples
from tests.end_to_end.conftest import WAIT_S, Device, DeviceProcess, cloud, device, model_files
from tests.hardware.arm64_root import missing_tools, python_command, site_folder

__all__ = ["cloud", "device", "model_files"]

_FOLDER = os.environ.get("CODA_ARM64_ROOT")
_REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.skipif(not _FOLDER, reason="CODA_ARM64_ROOT names no arm64 root: make one with make test-arm64"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {' '.join(missing_tools())}"),
]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{site_folder(folder)}:{_REPOSITORY}", "CODA_RUNTIME": "tflite_runtime"}


def _python(folder: Path, *arguments: str) -> str:
    command = [*python_command(folder), *arguments]
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.strip()


def test_the_wheels_are_the_boards_own() -> None:
    """The emulated Python is an aarch64 one, imports the aarch64 wheels, and knows that it is emulated."""
    program = (
        "import platform, tflite_runtime.interpreter, numpy; from hardware.board import identify; "
        "print(platform.machine(), numpy.__version__.split('.')[0], identify().emulated)"
    )
    assert _python(Path(str(_FOLDER)), "-c", program) == "aarch64 1 True"


def test_a_round_on_emulated_arm64(
    cloud: Callable[..., Any],
    device: Callable[..., Device],
) -> None:
    """A whole round runs, phase by phase, is marked as emulated, and reaches the cloud."""
    folder = Path(str(_FOLDER))
    one = device("arm64-1", timeout_s=WAIT_S)
    one.add(samples(60))
    recipe = Recipe(steps=60, learning_rate=0.2, classifier_steps=40, match_samples=300)
    with cloud(recipe) as service:
        command = [*python_command(folder), "-m", "edge", "--config", str(one.file), "--once", "--json"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=_environment(folder), stdout=pipe, stderr=pipe, text=True)
        try:
            run = DeviceProcess(process)
            events = run.events()
            assert process.wait(WAIT_S) == 0, run.errors()
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()
        [reported] = service.reports("arm64-1")
    [values] = [event["record"] for event in events if event["event"] == "round"]
    record = RoundRecord.from_dict(values)
    assert [phase.name for phase in record.phases if phase.level == 0][-len(PHASES) :] == list(PHASES)
    assert record.board["machine"] == "aarch64"
    assert record.emulated == ("instruction set",)
    assert reported["emulated"] == ["instruction set"]
    assert record.software["runtime"] == "tflite_runtime"
    assert record.outcome.samples_matched > 0
