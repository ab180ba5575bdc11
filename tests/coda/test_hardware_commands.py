"""`coda hardware`: what can be measured, and meters on a port."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.meters import um
from profiling.abilities import describe
from profiling.recording import load_recording
from profiling.synthetic import PI_5, write_synthetic_run
from tests.coda.running import coda_here, settled, start_coda
from tests.hardware.pseudo import PPK2_METADATA, Device, device, ppk2_samples, silent, um_frame
from tests.hardware.trees import put

Answer = Callable[[bytes], tuple[bytes, int]]


def _um(amps: Callable[[], float]) -> Answer:
    """A UM25C at 5 V."""
    return lambda heard: (um_frame(amps=amps()) * heard.count(um.ASK), len(heard))


def _falling() -> Callable[[], float]:
    """A current that is never twice the same: equal frames are the meter repeating itself."""
    begin_s = time.monotonic()
    return lambda: 0.5 - (time.monotonic() - begin_s) * 0.001


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("calibrate", "{port}", "--source", "sun"), 2, "--source sun: use one of modelled"),
        (("calibrate", "{tmp}/none", "--kind", "um"), 1, "none: cannot be opened"),
        (("calibrate", "{port}", "--kind", "um"), 1, "more within"),
        (("meters", "read", "{port}", "--kind", "abacus"), 2, "--kind abacus: use one of csv, um"),
        (("meters", "read", "{port}", "--kind", "ppk2"), 1, "state its supply in millivolts"),
        (("meters", "log", "{tmp}/none", "--kind", "um"), 1, "none: cannot be opened"),
        (("info", "--calibrations", "{tmp}/none"), 2, "none"),
        (("info", "--calibrations", "{tmp}"), 1, "bad.json"),
    ],
)
def test_what_cannot_be_done_is_told(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """A wrong option and a port without a meter are each one line, without a traceback."""
    (tmp_path / "bad.json").write_text("{}")
    root = put(tmp_path, "root/proc/stat", "cpu  1 0 0 1 0 0 0 0 0 0").parents[1]
    rooted = ("--root", str(root)) if arguments[0] == "calibrate" else ()
    with device(silent) as far:
        words = [word.format(port=far.path, tmp=tmp_path) for word in arguments]
        done = coda_here("hardware", *words, *rooted)
    assert done.returncode == code
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_info_says_why_not() -> None:
    """Every quantity is either measured somehow or has a reason, for a person and as JSON."""
    values = json.loads(coda_here("hardware", "info", "--json").stdout)
    for ability in values["abilities"]:
        assert bool(ability["how"]) != bool(ability["why_not"])
    printed = coda_here("hardware", "info").stdout
    assert all(ability.quantity in printed for ability in describe().abilities)


def test_read_a_meter() -> None:
    """One reading, with the meter's name."""
    with device(_um(lambda: 0.5)) as far:
        done = coda_here("hardware", "meters", "read", far.path, "--kind", "um", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"meter": "um-um25c", "power_w": 2.5, "voltage_v": 5.0, "current_a": 0.5}


def test_log_a_meter_that_is_unplugged(tmp_path: Path) -> None:
    """The log goes on once the meter is back, its times begin at zero and rise, and the end tells what happened."""
    port, out = tmp_path / "port", tmp_path / "power.csv"
    first = Device(_um(_falling()))
    port.symlink_to(first.path)
    running = start_coda("hardware", "meters", "log", str(port), "--kind", "um", "--seconds", "60", "--out", str(out))
    try:
        settled(lambda: out.exists() and out.stat().st_size > 100)
        with device(_um(_falling())) as second:
            port.unlink()
            port.symlink_to(second.path)
            first.close()
            before = out.stat().st_size
            settled(lambda: out.stat().st_size > before + 200)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=30)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130, said
    assert "1 reconnections" in said
    assert "last fault" in said
    rows = list(csv.DictReader(out.read_text().splitlines()))
    times = [float(row["t_s"]) for row in rows]
    assert times[0] == 0
    assert times == sorted(set(times))
    assert all(2 < float(row["power_w"]) <= 2.5 for row in rows)


def test_log_a_ppk2(tmp_path: Path) -> None:
    """A PPK2's options reach it: the supply that it cannot measure, and that it is to supply the board."""
    asked = bytearray()

    def answer(heard: bytes) -> tuple[bytes, int]:
        asked.extend(heard)
        reply = PPK2_METADATA.encode() if b"\x19" in heard else b""
        return reply + (ppk2_samples(6400) if b"\x06" in heard else b""), len(heard)

    with device(answer) as far:
        options = ("--kind", "ppk2", "--vdd-mv", "3300", "--ppk2-source", "--seconds", "1")
        done = coda_here("hardware", "meters", "log", far.path, *options)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert rows
    assert all(float(row["voltage_v"]) == 3.3 for row in rows)
    assert b"\x11\x02\x0d\x0c\xe4" in asked  # a source of 3300 mV
    assert f"{len(rows)} readings, 0 lost" in done.stderr


def test_log_a_csv_meter_whose_header_has_passed() -> None:
    """A meter that printed its header before anyone listened is told on the command line what its columns are."""
    with device(silent, b"5.0,0.5\r\n") as far:
        options = ("--kind", "csv", "--csv-header", "bus_V,current_A", "--seconds", "1")
        done = coda_here("hardware", "meters", "log", far.path, *options)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert {float(row["power_w"]) for row in rows} == {2.5}


def test_replay_of_a_recorded_round(tmp_path: Path) -> None:
    """A recorded round comes out as a meter's readings, at its pace or faster; an absent source is told."""
    run = write_synthetic_run(tmp_path / "run", PI_5, devices=1)
    (path,) = (run / "recordings").iterdir()
    power = load_recording(path).find("power_mw:pi5-pmic+community")
    assert power is not None
    done = coda_here("hardware", "meters", "replay", str(path), "--speed", "100")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [float(row["power_w"]) * 1000 for row in rows] == pytest.approx(list(power.values))
    assert float(rows[-1]["t_s"]) == pytest.approx(power.times_s[-1] - power.times_s[0], abs=1e-3)
    refused = coda_here("hardware", "meters", "replay", str(path), "--source", "sun")
    assert refused.returncode == 2
    assert "no power of sun" in refused.stderr
