"""RAPL: differences, wraparound, and honest absence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.discovery import find_sensors
from hardware.errors import SensorError
from hardware.rapl import Rapl, find_rapl
from hardware.sensor import Scope
from tests.hardware.trees import put, rapl


def _sensor(root: Path) -> Rapl:
    sensor = find_rapl(root)
    assert isinstance(sensor, Rapl)
    return sensor


def test_packages_are_summed_and_nothing_else(tmp_path: Path) -> None:
    """Two packages add up; their cores and psys are left out, and energy begins at zero."""
    first, second = rapl(tmp_path, packages=2)
    sensor = _sensor(tmp_path)
    assert sensor.energy_mj() == 0
    first.write_text("3000\n")
    second.write_text("5500\n")
    assert sensor.energy_mj() == pytest.approx(2.0 + 4.5)
    assert sensor.source.scope is Scope.CPU_PACKAGE


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 999), st.lists(st.integers(0, 999), max_size=30))
def test_wraparound(tmp_path_factory: pytest.TempPathFactory, start_uj: int, steps_uj: list[int]) -> None:
    """However often the counter wraps, the sum of its steps comes out."""
    root = tmp_path_factory.mktemp("rapl")
    (counter,) = rapl(root, energy_uj=start_uj, range_uj=1000)
    now_s = 0.0
    sensor = Rapl([counter.parent], lambda: now_s)
    for step_uj in steps_uj:
        now_s += 1e-3
        counter.write_text(f"{(int(counter.read_text()) + step_uj) % 1000}\n")
        sensor.energy_mj()
    assert sensor.energy_mj() * 1000 == pytest.approx(sum(steps_uj))


@pytest.mark.parametrize("text", ["", "12x", "-4", "262143328851", "\xff"])
def test_nonsense_is_an_error(tmp_path: Path, text: str) -> None:
    """A counter that says anything but a number in its range raises and names the file."""
    (counter,) = rapl(tmp_path)
    sensor = _sensor(tmp_path)
    counter.write_text(f"{text}\n")
    with pytest.raises(SensorError, match="intel-rapl:0"):
        sensor.energy_mj()


def test_vanished_counter(tmp_path: Path) -> None:
    """A counter that disappears raises."""
    (counter,) = rapl(tmp_path)
    sensor = _sensor(tmp_path)
    counter.unlink()
    with pytest.raises(SensorError, match="No such file"):
        sensor.energy_mj()


def test_reset_is_no_wrap(tmp_path: Path) -> None:
    """A counter that falls to zero, as after a sleep, has not drawn a whole range: it is a break, and counts on."""
    (counter,) = rapl(tmp_path, energy_uj=9_000_000_000)
    now_s = 0.0
    sensor = Rapl([counter.parent], lambda: now_s)
    for now_s, reading_uj in ((1.0, 9_000_500_000), (2.0, 0), (3.0, 300_000)):  # noqa: B007 (the sensor's clock)
        counter.write_text(f"{reading_uj}\n")
        if reading_uj == 0:
            with pytest.raises(SensorError, match="it was reset"):
                sensor.energy_mj()
        else:
            counted_mj = sensor.energy_mj()
    assert counted_mj == pytest.approx(500 + 300)
    assert sensor.breaks == 1


def test_discovery_says_why_not(tmp_path: Path) -> None:
    """Without RAPL, or with one that cannot be read, discovery gives no sensor and the reason."""
    assert "no RAPL package domain" in find_sensors(tmp_path).why_none
    put(tmp_path, "sys/class/powercap/intel-rapl:0/name", "package-0")
    found = find_sensors(tmp_path)
    assert found.sensors == ()
    assert "only root may read" in found.reasons["rapl"]


def test_discovery_finds(tmp_path: Path) -> None:
    """With RAPL, discovery gives it and has nothing to excuse."""
    rapl(tmp_path)
    found = find_sensors(tmp_path)
    assert [sensor.source.name for sensor in found.sensors] == ["rapl"]
    assert "rapl" not in found.reasons
