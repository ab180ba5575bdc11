"""The sampler, the tracks over it, idle baselines and the round's energies, with sensors over fake files."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from hardware.errors import SensorError
from hardware.rapl import Rapl
from hardware.sensor import Kind, PowerSensor, Scope, Source
from profiling.energy import Energy
from profiling.idle import Idle, measure_idle, net_of_idle
from profiling.sampler import Gauge, Sampler
from profiling.series import Series
from profiling.tracks import follow
from profiling.window import Profiler
from tests.hardware.trees import rapl


class FilePower(PowerSensor):
    """A power in milliwatts from a file, as a sysfs sensor's is."""

    def __init__(self, path: Path, relative_u95: float | None = 0.05) -> None:
        self.source = Source("file", Kind.MEASURED, Scope.BOARD_INPUT, relative_u95)
        self._path = path

    def power_mw(self) -> float:
        """What the file holds."""
        try:
            return float(self._path.read_text())
        except (OSError, ValueError) as error:
            raise SensorError("file", str(error)) from error


class Clock:
    """A clock that moves a little with every look, and further when a test says so."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


def _work(sensor_file: Path, seconds: float, clock: Clock, profiler: Profiler) -> None:
    """Let time pass in steps of 100 ms, each with a sample, as the thread would take them."""
    for _ in range(round(seconds * 10)):
        clock.now_s += 0.1
        for probe in profiler.probes:
            probe.sample(clock)


def test_series_is_bounded_and_keeps_its_span() -> None:
    """A full series drops every other sample, so it stays bounded and still covers the whole time."""
    series = Series("x", most=100)
    for i in range(1000):
        series.append(i, i * 2)
    times, values = series.copy()
    assert len(series) <= 100
    assert times[0] < 20
    assert times[-1] == 999
    assert all(v == 2 * t for t, v in zip(times, values, strict=True))
    assert series.thinned > 0


def test_sampler_runs_only_while_held() -> None:
    """The thread begins with the first hold, samples, and ends by itself or at once when stopped."""
    seen = threading.Event()
    enough = 5

    def read() -> float:
        if len(gauge.series) >= enough:
            seen.set()
        return 1.0

    gauge = Gauge("x", read)
    sampler = Sampler([gauge], hz=500)
    before = set(threading.enumerate())
    sampler.hold()
    assert seen.wait(20)
    sampler.release()
    sampler.stop()
    assert not set(threading.enumerate()) - before
    steps = [later - earlier for earlier, later in pairwise(gauge.series.copy()[0])]
    assert min(steps) > 0
    assert len(set(steps)) > 1


def test_probe_respects_the_sensors_own_rate() -> None:
    """A probe that renews itself five times a second is not asked more often: a repeat would skew short windows."""
    clock = Clock()
    gauge = Gauge("x", lambda: 1.0, most_hz=5)
    taken = []
    for _ in range(100):
        clock.now_s += 0.05
        taken.append(gauge.sample(clock))
    assert 20 <= sum(taken) <= 26


def test_edge_does_not_wait_for_a_slow_probe() -> None:
    """At a window's edge a probe that is known to be slow, or is being read, is passed over."""
    clock = Clock()

    def slow() -> float:
        clock.now_s += 0.05
        return 1.0

    gauge = Gauge("x", slow)
    assert gauge.sample(clock)
    assert not gauge.sample(clock, wait=False)


def test_faults_are_counted() -> None:
    """A reading that fails leaves no sample and is counted with its reason."""

    def broken() -> float:
        raise SensorError("x", "EIO")

    gauge = Gauge("x", broken)
    assert not gauge.sample()
    assert (gauge.faults, gauge.fault, len(gauge.series)) == (1, "x: EIO", 0)


def test_power_sensor_through_phases(tmp_path: Path) -> None:
    """A sampled power gives a phase its energy with a bar, a short phase none, and the round their sum."""
    path = tmp_path / "power"
    path.write_text("2000")
    clock = Clock()
    profiler = Profiler(sensors=[FilePower(path)], clock=clock, hz=0.01)
    with profiler.phase("sync"):
        _work(path, 0.3, clock, profiler)
    with profiler.phase("tune"):
        _work(path, 4.0, clock, profiler)
    sync, tune = profiler.phases
    assert sync.energy_mj is None
    assert tune.energy_mj == pytest.approx(8000)
    assert tune.energy_u95_mj == pytest.approx(400, rel=0.01)
    assert profiler.unmeasured["energy"] == "insufficient samples (in sync)"
    (whole,) = profiler.energies
    assert whole.gross_mj == pytest.approx(8600)
    assert whole.window_s == pytest.approx(4.3)
    assert whole.rate_hz == pytest.approx(10, rel=0.1)


def test_power_sensor_that_fails_half_way(tmp_path: Path) -> None:
    """A file that vanishes in mid-phase leaves a gap, and a phase that is mostly gap has no number."""
    path = tmp_path / "power"
    path.write_text("2000")
    clock = Clock()
    profiler = Profiler(sensors=[FilePower(path)], clock=clock, hz=0.01)
    with profiler.phase("tune"):
        _work(path, 2, clock, profiler)
        path.unlink()
        _work(path, 2, clock, profiler)
    assert profiler.phases[0].energy_mj is None
    (whole,) = profiler.energies
    assert whole.gross_mj is None
    assert "stretches without any" in (whole.reason or "")
    assert whole.faults >= 20


def test_two_sensors_are_kept_apart(tmp_path: Path) -> None:
    """Two sensors give two energies of their own scopes; the phases use the first."""
    path = tmp_path / "power"
    path.write_text("5000")
    (counter,) = rapl(tmp_path)
    clock = Clock()
    package = Rapl([counter.parent], clock)
    profiler = Profiler(sensors=[FilePower(path), package], clock=clock, hz=0.01)
    with profiler.phase("tune"):
        for _ in range(4):
            counter.write_text(f"{int(counter.read_text()) + 750_000}\n")
            _work(path, 0.5, clock, profiler)
    board, processor = profiler.energies
    assert (board.source.scope, processor.source.scope) == ("board-input", "cpu-package")
    assert board.gross_mj == pytest.approx(10_000)
    assert processor.gross_mj == pytest.approx(3000)
    assert profiler.phases[0].energy_mj == pytest.approx(10_000)


def test_idle_baseline_and_net(tmp_path: Path) -> None:
    """The baseline is the mean power at rest; net is gross less baseline, with both bars in it."""
    (counter,) = rapl(tmp_path)
    clock = Clock()

    def rest(seconds: float) -> None:
        clock.now_s += seconds
        counter.write_text(f"{int(counter.read_text()) + int(1_500_000 * seconds)}\n")

    idle = measure_idle([Rapl([counter.parent], clock)], 10, rest=rest, clock=clock)
    assert idle["rapl"].power_mw == pytest.approx(1500)
    gross = Energy(9000.0, 500.0, 30.0, 4.0)
    net_mj, u95_mj = net_of_idle(gross, idle["rapl"], 0.05)
    assert net_mj == pytest.approx(3000)
    assert u95_mj == pytest.approx((30**2 + (4 * idle["rapl"].u95_mw) ** 2 + 150**2) ** 0.5)
    assert net_of_idle(gross, None, 0.05) == (None, None)
    assert net_of_idle(Energy(None, None, None, 4.0), idle["rapl"], 0.05) == (None, None)


def test_idle_baseline_of_a_sampled_power(tmp_path: Path) -> None:
    """A power is sampled by the thread while the caller rests; a sensor that gives too little is left out."""
    path = tmp_path / "power"
    path.write_text("1800")
    idle = measure_idle([FilePower(path)], hz=25, rest=lambda _: time.sleep(0.8))
    assert idle["file"].power_mw == pytest.approx(1800)
    path.unlink()
    assert measure_idle([FilePower(path)], hz=400, rest=lambda _: time.sleep(0.02)) == {}


def test_net_energy_and_overhead_in_the_round(tmp_path: Path) -> None:
    """With a baseline the round has a net energy, and the profiler's own share of it is stated."""
    path = tmp_path / "power"
    path.write_text("3000")
    clock = Clock()
    profiler = Profiler(sensors=[FilePower(path)], idle={"file": Idle(1000, 5, 10)}, clock=clock, hz=0.01)
    with profiler.phase("tune"):
        _work(path, 3, clock, profiler)
    (whole,) = profiler.energies
    assert whole.net_mj == pytest.approx(6000)
    assert whole.idle_mw == 1000
    assert profiler.overhead.cpu_s > 0
    assert profiler.overhead.energy_mj is not None
    assert profiler.overhead.energy_mj <= 6000 + 1e-6


def test_follow_refuses_what_is_no_sensor() -> None:
    """Something that neither counts nor tells power cannot be followed."""
    from hardware.sensor import Sensor

    class Neither(Sensor):
        source = Source("x", Kind.MEASURED, Scope.WALL)

    with pytest.raises(TypeError, match="counts no energy"):
        follow(Neither())
