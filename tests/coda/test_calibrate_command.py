"""`coda hardware calibrate`: ten loads beside a meter, to a calibration that what is measured then cites."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hardware.calibration import Calibration, load_calibrations
from hardware.discovery import find_sensors
from hardware.meters.port import Port
from profiling.window import Profiler
from tests.coda.running import coda, coda_here, settled, start_coda
from tests.hardware.pseudo import Device, device, silent
from tests.hardware.trees import pi, put
from tests.profiling.samples import record, write_run

_STEP_S = 1.5  # of each of ten loads; with less, a busy machine may miss too many readings
_CALIBRATION = ("--kind", "csv", "--csv-header", "bus_V,power_W", "--step-seconds", str(_STEP_S))


@contextmanager
def _board(root: Path) -> Iterator[Callable[[], float]]:
    """A Pi Zero whose utilisation goes up and down by itself; gives the watts that a meter beside it would read."""
    pi(root, "Raspberry Pi Zero 2 W Rev 1.0", 0x902120)
    begin_s, done = time.monotonic(), threading.Event()

    def utilisation() -> float:
        return 0.5 + 0.4 * math.sin((time.monotonic() - begin_s) / _STEP_S)

    def tick() -> None:
        last_s, busy, whole = begin_s, 0.0, 1.0
        while True:
            now_s = time.monotonic()
            busy, whole = busy + utilisation() * (now_s - last_s), whole + now_s - last_s
            last_s = now_s
            put(root, "proc/stat.part", f"cpu  {busy * 1e5:.0f} 0 0 {(whole - busy) * 1e5:.0f} 0 0 0 0 0 0")
            (root / "proc/stat.part").replace(root / "proc/stat")
            if done.wait(0.005):
                return

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield lambda: 0.7 + 1.5 * utilisation()
    finally:
        done.set()
        thread.join()


@contextmanager
def _csv_meter(watts: Callable[[], float], every_s: float = 0.1) -> Iterator[Device]:
    """A microcontroller that prints the power again and again."""
    done = threading.Event()

    def speak() -> None:
        while not done.wait(every_s):  # what is later than a few of these is a gap, and a machine may be busy
            far.send(f"5.0,{watts():.4f}\r\n".encode())

    with device(silent) as far:
        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        try:
            yield far
        finally:
            done.set()
            thread.join()


@pytest.mark.slow
def test_calibrate_then_info_and_report_cite_it(tmp_path: Path) -> None:
    """Ten steps against a meter give a calibration with an id and a bar, and what is measured here then cites it."""
    with _board(tmp_path / "root") as watts, _csv_meter(watts) as far:
        folder, root = str(tmp_path / "calibrations"), str(tmp_path / "root")
        done = coda("hardware", "calibrate", far.path, *_CALIBRATION, "--root", root, "--out", folder, "--json")
        assert done.returncode == 0, done.stderr
        info = coda_here("hardware", "info", "--root", root, "--calibrations", folder)
        page = _report_of_a_round(tmp_path, load_calibrations(tmp_path / "calibrations"))
    found = json.loads(done.stdout)
    assert done.stderr.count("load ") == 10
    assert (found["source"], found["reference"], found["steps"]) == ("modelled", "csv", 10)
    assert (found["offset_mw"], found["scale"]) == (pytest.approx(700, rel=0.1), pytest.approx(1500, rel=0.1))
    assert 0.02 <= found["relative_u95"] < 0.1
    assert load_calibrations(tmp_path / "calibrations")[0].id == found["id"]
    assert f"calibration-{found['id']} against csv on this unit" in info.stdout
    assert f"calibration-{found['id']} against csv on this unit" in page


def _report_of_a_round(tmp_path: Path, calibrations: list[Calibration]) -> str:
    """The page of a run whose one round was measured by this board's own, calibrated source."""
    profiler = Profiler(sensors=find_sensors(tmp_path / "root", calibrations).sensors)
    with profiler.phase("tune"):
        threading.Event().wait(0.3)
    run = write_run(tmp_path / "run", devices=1)
    measured = replace(record(), phases=profiler.phases, **profiler.round_fields())
    assert measured.phases[0].energy_mj is not None
    (run / "rounds.jsonl").write_text(json.dumps(measured.to_dict()) + "\n")
    assert coda_here("report", str(run)).returncode == 0
    return (run / "report.html").read_text()


def test_a_calibration_that_comes_to_nothing_is_told(tmp_path: Path) -> None:
    """A meter that prints too seldom for so short a step: nothing is written, and the reason is told."""
    with _board(tmp_path / "root") as watts, _csv_meter(watts, every_s=0.4) as far:
        places = ("--root", str(tmp_path / "root"), "--out", str(tmp_path / "calibrations"))
        done = coda("hardware", "calibrate", far.path, *_CALIBRATION, *places, "--step-seconds", "1")
    assert done.returncode == 1
    assert "insufficient samples" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "calibrations").exists()


def test_calibrate_that_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C in mid-step writes nothing, ends the load's processes and gives the port back."""
    with _board(tmp_path / "root") as watts, _csv_meter(watts) as far:
        places = ("--root", str(tmp_path / "root"), "--out", str(tmp_path / "calibrations"))
        running = start_coda("hardware", "calibrate", far.path, *_CALIBRATION, *places)
        assert running.stderr is not None
        try:
            while "load " not in running.stderr.readline():
                assert running.poll() is None
            settled(lambda: bool(psutil.Process(running.pid).children()))
            workers = psutil.Process(running.pid).children()
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=30)[1]
        finally:
            running.kill()
            running.communicate()
        Port(far.path).close()
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not psutil.wait_procs(workers, timeout=30)[1]
    assert not (tmp_path / "calibrations").exists()
