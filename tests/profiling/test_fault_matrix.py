"""Every sensor and meter under every fault that it can have: no number but one whose bar holds the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hardware.meters.stream import MeterStream
from profiling.energy import Energy, integrate
from profiling.window import Profiler
from tests.profiling import matrix
from tests.profiling.matrix_meters import BEGIN_S, instrument, stream, truth_mj
from tests.profiling.matrix_sensors import Tree
from tests.profiling.test_faults import memory_path

__all__ = ["memory_path"]  # a fixture

_FOR_GOOD = ("stale frame", "vanished")
_NONE = ""
_WIDEST_SOUND = 0.15  # bar of a source in order, as a share of its energy
_DOCS = Path(__file__).resolve().parents[2] / "docs" / "measuring.md"


def _cells(sources: Sequence[str]) -> list[tuple[str, str]]:
    faulty = [cell for cell in matrix.CELLS if cell[0] in sources]
    return faulty + [(source, _NONE) for source in sources]


def _check(energy: Energy, truth: float, fault: str) -> None:
    if energy.energy_mj is None or energy.u95_mj is None:
        assert energy.reason
        assert fault != _NONE
        return
    assert abs(energy.energy_mj - truth) <= energy.u95_mj
    if fault == _NONE:
        assert energy.u95_mj < _WIDEST_SOUND * energy.energy_mj


def _energy(meter: MeterStream, samples: Sequence[tuple[float, float]], window: tuple[float, float]) -> Energy:
    times_s, powers_mw = zip(*samples, strict=True)
    bar = meter.source.relative_u95
    return integrate(times_s, powers_mw, [window], relative_u95=bar, latency_s=meter.latency_s, still_s=meter.still_s)


@pytest.mark.parametrize(("source", "fault"), _cells(matrix.METERS))
def test_meter(monkeypatch: pytest.MonkeyPatch, source: str, fault: str) -> None:
    """Over the fault and after it a meter's energy holds the truth within its bar, or there is none with a reason."""
    far = instrument(source, fault)
    meter = stream(monkeypatch, far)
    samples = meter.drain()
    over = (BEGIN_S + 0.1 * far.span_s, BEGIN_S + 0.98 * far.span_s)
    after = (BEGIN_S + 0.55 * far.span_s, BEGIN_S + 0.98 * far.span_s)
    for window in (over, after):
        _check(_energy(meter, samples, window), truth_mj(*window), fault)
    assert (_energy(meter, samples, after).energy_mj is None) == (fault in _FOR_GOOD)


@pytest.mark.parametrize(("source", "fault"), _cells(matrix.SENSORS))
def test_sensor(memory_path: Path, source: str, fault: str) -> None:
    """The same of a board's own sensors, whose files fault in the middle of one phase and are well in the next."""
    tree = Tree(source, fault, memory_path)
    profiler = Profiler(sensors=[tree.open()], clock=lambda: tree.now_s, hz=0.001)
    truths = [_phase(profiler, tree, name) for name in ("before", "over", "after")]
    for record, truth in zip(profiler.phases, truths, strict=True):
        reason = profiler.unmeasured.get("energy")
        _check(Energy(record.energy_mj, record.energy_u95_mj, None, 0, reason=reason), truth, fault)
    before, _, after = (record.energy_mj for record in profiler.phases)
    assert before is not None
    assert (after is None) == (fault in _FOR_GOOD)


def _phase(profiler: Profiler, tree: Tree, name: str) -> float:
    """A phase in small steps, the fault in its second quarter if it is the phase for it; gives what was drawn."""
    begin_mj, steps = tree.truth_mj, 800 if tree.source == "battery" else 120  # a battery's gauge may be slow
    with profiler.phase(name):
        for step in range(steps):
            tree.step()
            if name == "over" and step == steps // 4 and tree.fault:
                tree.begin_fault()
            if step == steps // 2 and tree.fault not in _FOR_GOOD:
                tree.is_faulty = False
                tree.show()
            if not (tree.fault == "counter gap" and tree.is_faulty):  # nobody looks for a while
                profiler.probes[0].sample(lambda: tree.now_s)
    return tree.truth_mj - begin_mj


def test_every_cell_is_tested_or_has_a_reason() -> None:
    """No source and no fault is forgotten, and the page on measuring shows this very matrix."""
    both = {(source, fault) for source in matrix.SOURCES for fault in matrix.FAULTS}
    assert set(matrix.CELLS) | set(matrix.NOT_APPLICABLE) == both
    assert not set(matrix.CELLS) & set(matrix.NOT_APPLICABLE)
    assert matrix.table() in _DOCS.read_text(encoding="utf-8")
