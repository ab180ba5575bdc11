"""No fault of a sensor yields a confident wrong number: the truth is within the bar, or there is no number."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware.ina3221 import Ina3221
from hardware.rapl import Rapl
from profiling.window import Profiler
from tests.hardware.trees import ina_hwmon, rapl
from tests.profiling.test_sampler import Clock

_STEP_S = 0.1


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory: some disks take a millisecond to cut a file short, which is done often here."""
    base = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=base if base.is_dir() else None) as folder:
        yield Path(folder)


class _Board:
    """A board under a random load whose files fault at random, and whose true energy is known."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.rng = rng
        self.clock = Clock()
        self.folder = ina_hwmon(root, "1-0040", 3, {"VDD_IN": (5000, 600)})
        (self.counter,) = rapl(root, energy_uj=9_000_000, range_uj=10_000_000)
        self._counted_uj = 9_000_000.0
        self.power_mw = 3000.0

    def step(self, fault: str | None) -> None:
        """A tenth of a second: the load moves, files follow it or fault."""
        if self.rng.random() < 0.15:
            self.power_mw = self.rng.uniform(2000, 9000)
        self.clock.now_s += _STEP_S * self.rng.uniform(0.75, 1.25)
        current, energy = self.folder / "curr1_input", self.counter
        self._counted_uj = (self._counted_uj + self.power_mw * _STEP_S * 1000) % 10_000_000
        current.write_text(f"{round(self.power_mw / 5)}\n")
        energy.write_text(f"{round(self._counted_uj)}\n")
        if fault == "gone":
            current.unlink()
            energy.unlink()
        elif fault is not None:
            current.write_text(f"{fault}\n")
            energy.write_text(f"{fault}\n")


def _round(root: Path, rng: random.Random, faults: float) -> float | None:
    """How far a round's energy is from the truth in units of its bar; None where there is no number."""
    board = _Board(root, rng)
    profiler = Profiler(sensors=[Ina3221(root)], clock=board.clock, hz=0.001)
    truth_mj = 0.0
    board.step(None)
    with profiler.phase("tune"):
        for _ in range(rng.randint(10, 60)):
            begin_s, power_mw = board.clock.now_s, board.power_mw
            board.step(rng.choice(["gone", "", "12x", "-7"]) if rng.random() < faults else None)
            truth_mj += (board.clock.now_s - begin_s) * (power_mw + board.power_mw) / 2
            for probe in profiler.probes:
                probe.sample(board.clock)
    (phase,) = profiler.phases
    if phase.energy_mj is None or phase.energy_u95_mj is None:
        assert "energy" in profiler.unmeasured
        return None
    return abs(phase.energy_mj - truth_mj) / phase.energy_u95_mj


def test_sampled_power_under_file_faults(memory_path: Path) -> None:
    """Files that vanish, are empty or garbled leave gaps: what is said in spite of them holds, or nothing is said."""
    rng = random.Random(11)
    said: list[float] = []
    for faults, most, least in ((0.0, 40, 40), (0.05, 40, 20), (0.4, 40, 0), (0.9, 10, 0)):
        found = [_round(memory_path / f"{faults}-{i}", rng, faults) for i in range(40)]
        known = [miss for miss in found if miss is not None]
        assert least <= len(known) <= most
        said += known
    assert sum(miss <= 1 for miss in said) >= 0.95 * len(said)


def test_counter_under_file_faults(memory_path: Path) -> None:
    """A counter that wraps within the round is right; one whose edge is gone or garbled gives no number."""
    rng = random.Random(5)
    for i, spoilt in enumerate((None, "gone", "", "12x", "-7", "99999999999")):
        board = _Board(memory_path / str(i), rng)
        profiler = Profiler(sensors=[Rapl([board.counter.parent], board.clock)], clock=board.clock, hz=0.001)
        truth_mj = 0.0
        with profiler.phase("tune"):
            for step in range(60):
                board.step(spoilt if step == 59 else None)
                truth_mj += board.power_mw * _STEP_S
                if step % 10 == 0:
                    profiler.probes[0].sample(board.clock)
        energy_mj = profiler.phases[0].energy_mj
        if spoilt is None:
            assert energy_mj == pytest.approx(truth_mj, rel=1e-6)
        else:
            assert energy_mj is None
