"""Calibration finds the line that is there, trusts it as far as held-out steps allow, and refuses what it cannot."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hardware.calibration import Calibration, load_calibration, load_calibrations, unit_of
from hardware.discovery import find_sensors
from hardware.errors import CalibrationError
from hardware.load import busy
from hardware.modelled import Utilisation
from hardware.sensor import Kind, PowerSensor, Scope, Source, StreamSensor
from profiling.calibrate import LOADS, Step, fit, run_steps
from tests.hardware.test_pmic import _script
from tests.hardware.trees import PMIC_W, pi, program, put


class Bench:
    """A board under a load with a clock that a test moves."""

    def __init__(self, root: Path) -> None:
        self.now_s = 0.0
        self.load = 0.0
        self._ticks = [0, 0]
        self._root = root
        self.rest(0)

    @contextmanager
    def hold(self, load: float) -> Iterator[None]:
        """Set the load."""
        self.load = load
        yield
        self.load = 0.0

    def rest(self, seconds: float) -> None:
        """Let time and processor ticks pass."""
        self.now_s += seconds
        self._ticks[0] += round(400 * seconds * self.load)
        self._ticks[1] += round(400 * seconds * (1 - self.load))
        put(self._root, "proc/stat", f"cpu  {self._ticks[0]} 0 0 {self._ticks[1]} 0 0 0 0 0 0")

    def clock(self) -> float:
        """The time."""
        return self.now_s


class BenchMeter(StreamSensor):
    """A meter on the bench: a sample every 50 ms of the bench's time."""

    def __init__(self, bench: Bench, name: str, power_mw: Callable[[float], float], relative_u95: float = 0.02) -> None:
        self.source = Source(name, Kind.MEASURED, Scope.BOARD_INPUT, relative_u95)
        self._bench = bench
        self._power_mw = power_mw
        self._last_s = 0.0

    def drain(self) -> list[tuple[float, float]]:
        """What the bench's time has brought."""
        out = []
        while self._last_s + 0.05 <= self._bench.now_s:
            self._last_s += 0.05
            out.append((self._last_s, self._power_mw(self._bench.load)))
        return out


def _steps(root: Path, source: Callable[[float], float], reference: Callable[[float], float]) -> list[Step]:
    bench = Bench(root)
    meter = BenchMeter(bench, "um-um25c", reference)
    sensor = BenchMeter(bench, "pi5-pmic", source)
    return list(run_steps(sensor, meter, hold=bench.hold, rest=bench.rest, clock=bench.clock))


def _reference(tmp_path: Path, relative_u95: float = 0.02) -> BenchMeter:
    return BenchMeter(Bench(tmp_path), "um-um25c", lambda load: 0.0, relative_u95)


def test_line_is_found(tmp_path: Path) -> None:
    """A reference that is a noisy line of the source gives that line, with a bar that covers what was held out."""
    noise = random.Random(3)
    steps = _steps(tmp_path, lambda u: 2000 + 3000 * u, lambda u: 1.12 * (2000 + 3000 * u) + 600 + noise.gauss(0, 30))
    assert [step.load for step in steps] == list(LOADS)
    calibration = fit(steps, "pi5-pmic", _reference(tmp_path), tmp_path)
    assert calibration.scale == pytest.approx(1.12, rel=0.02)
    assert calibration.offset_mw == pytest.approx(600, abs=60)
    assert 0.02 <= calibration.relative_u95 < 0.04
    assert (calibration.low, calibration.high) == pytest.approx((2000, 5000))


def test_bent_reference_widens_the_bar(tmp_path: Path) -> None:
    """What is no line misses the held-out steps, and the bar says by how much."""
    straight = fit(_steps(tmp_path, lambda u: 1000 + u, lambda u: 2000 + 3000 * u), "x", _reference(tmp_path), tmp_path)
    bent = fit(
        _steps(tmp_path, lambda u: 1000 + u, lambda u: 2000 + 3000 * u**1.3), "x", _reference(tmp_path), tmp_path
    )
    assert bent.relative_u95 > 3 * straight.relative_u95


def test_utilisation_gives_a_model_of_this_unit(tmp_path: Path) -> None:
    """Utilisation against a meter gives a model that this unit, and no other, then uses."""
    pi(tmp_path, "Raspberry Pi Zero 2 W Rev 1.0", 0x902120)
    put(tmp_path, "proc/device-tree/serial-number", b"10000000abcdef01\0")
    bench = Bench(tmp_path)
    meter = BenchMeter(bench, "um-um25c", lambda load: 700 + 1500 * load)
    steps = list(run_steps(Utilisation(tmp_path), meter, hold=bench.hold, rest=bench.rest, clock=bench.clock))
    assert [step.source for step in steps] == pytest.approx(LOADS, abs=0.001)
    calibration = fit(steps, "modelled", meter, tmp_path)
    assert (calibration.offset_mw, calibration.scale) == pytest.approx((700, 1500), rel=0.01)
    assert "no published linear model" in find_sensors(tmp_path).reasons["modelled"]
    (sensor,) = find_sensors(tmp_path, [calibration]).sensors
    assert calibration.id in sensor.source.note
    assert sensor.source.kind is Kind.MODELLED
    other = replace(calibration, unit="0" * 12)
    assert find_sensors(tmp_path, [other]).sensors == ()


def test_calibration_replaces_the_published_correction(tmp_path: Path) -> None:
    """On a calibrated Pi 5 the calibration corrects the rails themselves, not what the community made of them."""
    pi(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", 0xC04170)
    program(tmp_path, "usr/bin/vcgencmd", _script())
    calibration = fit(
        _steps(tmp_path, lambda u: 2000 + 3000 * u, lambda u: 1.2 * (2000 + 3000 * u) + 500),
        "pi5-pmic",
        _reference(tmp_path),
        tmp_path,
    )
    sensor = find_sensors(tmp_path, [calibration]).sensors[0]
    assert isinstance(sensor, PowerSensor)
    assert sensor.power_mw() == pytest.approx(1.2 * PMIC_W * 1000 + 500, rel=1e-3)
    assert sensor.source.name == f"pi5-pmic+calibration-{calibration.id}"


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        (lambda u: 2000 + 3000 * u, lambda u: 2500.0, "the load has no effect"),
        (lambda u: 5000 - 3000 * u, lambda u: 2000 + 3000 * u, "falls as x rises"),
        (lambda u: 2000 + u, lambda u: 500 + 9000 * (u == 0.5), "no better than a guess|falls as"),
    ],
)
def test_bad_steps_are_refused(
    tmp_path: Path, source: Callable[[float], float], reference: Callable[[float], float], message: str
) -> None:
    """No effect of the load, a falling line and one that misses are refused."""
    with pytest.raises(CalibrationError, match=message):
        fit(_steps(tmp_path, source, reference), "x", _reference(tmp_path), tmp_path)


def test_too_few(tmp_path: Path) -> None:
    """Too few steps, and a step with too few readings, are refused by name."""
    with pytest.raises(CalibrationError, match="at least 6"):
        fit([Step(0, 1, 1)] * 5, "x", _reference(tmp_path), tmp_path)
    bench = Bench(tmp_path)
    meter = BenchMeter(bench, "meter", lambda load: 1.0)
    with pytest.raises(CalibrationError, match="meter: insufficient samples"):
        list(run_steps(Utilisation(tmp_path), meter, step_s=0.2, hold=bench.hold, rest=bench.rest, clock=bench.clock))


def _calibration() -> Calibration:
    return Calibration("pi5-pmic", "a" * 12, "pi-5", "um", "board-input", 1.1, 500, 2000, 5000, 0.03, 10, 1.76e9)


def test_files(tmp_path: Path) -> None:
    """A calibration comes back from its file; a changed, cut or foreign file is refused."""
    calibration = _calibration()
    path = calibration.save(tmp_path)
    assert load_calibration(path) == calibration
    newer = replace(calibration, scale=1.2, created_unix_s=1.77e9)
    newer.save(tmp_path)
    assert load_calibrations(tmp_path) == [calibration, newer]
    assert load_calibrations(tmp_path / "none") == []
    path.write_text(path.read_text().replace("1.1", "1.3"))
    with pytest.raises(CalibrationError, match="changed or renamed"):
        load_calibration(path)
    for text in (path.read_text()[:40], "[]", "{}", "\udcff"):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(CalibrationError, match=path.stem):
            load_calibration(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", -1.0), ("scale", "x"), ("scope", "house"), ("low", 9e9), ("offset_mw", float("inf")), ("steps", True)],
)
def test_senseless_values(name: str, value: object) -> None:
    """Values that no calibration has are refused."""
    values = json.loads(json.dumps(vars(_calibration())))
    with pytest.raises(CalibrationError):
        Calibration.from_dict({**values, name: value})


def test_unit_does_not_tell_the_serial_number(tmp_path: Path) -> None:
    """A unit's name tells machines apart and does not contain the serial number."""
    put(tmp_path / "a", "proc/device-tree/serial-number", b"10000000abcdef01\0")
    put(tmp_path / "b", "etc/machine-id", "5f0c")
    assert unit_of(tmp_path / "a") != unit_of(tmp_path / "b")
    assert "abcdef01" not in unit_of(tmp_path / "a")


def test_load_keeps_processors_busy() -> None:
    """A load uses processor time while it is held, and leaves no process behind."""
    before = set(psutil.Process().children())
    with busy(1.0, processors=1):
        (load,) = set(psutil.Process().children()) - before
        deadline_s = time.monotonic() + 60
        while sum(load.cpu_times()[:2]) < 0.3:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    assert set(psutil.Process().children()) <= before
    with pytest.raises(ValueError, match="0 to 1"), busy(1.5):
        pass
    with busy(0.0):
        pass
