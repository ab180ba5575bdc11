"""What a machine can tell, cross-checks between sensors, and what the profiler itself costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from profiling.abilities import describe
from profiling.crosscheck import agreements, check_bytes, cross_check, why_incomparable
from profiling.energy_record import EnergyRecord, EnergySource
from profiling.machine import Machine
from profiling.overhead import compare_on_off
from profiling.record import PhaseRecord
from profiling.window import Profiler
from tests.hardware.trees import ina_hwmon, jetson, program, put
from tests.profiling.samples import record


def test_describe_a_jetson(tmp_path: Path) -> None:
    """An Orin Nano is named, its power mode and input rail are found, and what is missing has its reason."""
    jetson(tmp_path, "nvidia,p3768-0000+p3767-0005-super", l4t="# R36 (release), REVISION: 4.3, GCID: 1")
    ina_hwmon(tmp_path, "1-0040", 3, {"VDD_IN": (5000, 436)})
    program(tmp_path, "usr/sbin/nvpmodel", "echo 'NV Power Mode: 15W'; echo 0")
    put(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", 52_968)
    info = describe(tmp_path)
    assert (info.board.kind, info.board.l4t) == ("jetson-orin-nano", "36.4.3")
    assert info.state == {"power_mode": "15W", "temperatures_c": {"cpu-thermal": 52.968}}
    by_name = {ability.quantity: ability for ability in info.abilities}
    assert by_name["energy: ina3221"].how == "measured"
    assert "scope board-input, ±5% at 95%" in by_name["energy: ina3221"].note
    assert "no battery" in (by_name["energy: battery"].why_not or "")
    assert "energy: pi5-pmic" not in by_name
    for ability in info.abilities:
        assert (ability.how is None) != (ability.why_not is None), ability


def test_describe_this_machine() -> None:
    """The real machine is described without an error, as plain values too."""
    info = describe()
    assert json.loads(json.dumps(info.to_dict()))["board"]["kind"] == info.board.kind


def _energy(name: str, scope: str, gross_mj: float | None, u95_mj: float, kind: str = "measured") -> EnergyRecord:
    return EnergyRecord(EnergySource(name, kind, scope), 10.0, gross_mj, u95_mj)


def test_sensors_that_agree() -> None:
    """Equal scopes within their bars, a package below its board, a model and an absent value are all fine."""
    assert not cross_check(
        [
            _energy("um", "board-input", 50_000, 1000),
            _energy("ina", "board-input", 51_000, 2500),
            _energy("rapl", "cpu-package", 20_000, 1000),
            _energy("model", "board-input", 90_000, 1, kind="modelled"),
            _energy("x", "board-input", None, 1),
        ]
    )


def test_sensors_that_contradict_one_another() -> None:
    """Equal scopes apart by more than their bars, and a part that draws more than the whole, are named."""
    apart, reversed_ = (
        cross_check([_energy("um", "board-input", 50_000, 1000), other])
        for other in (_energy("ina", "board-input", 60_000, 2500), _energy("rapl", "cpu-package", 60_000, 100))
    )
    assert len(apart) == 1
    assert "ina (board-input) and um (board-input) differ by 10 J" in apart[0] or "differ by 10 J" in apart[0]
    assert len(reversed_) == 1
    assert "the narrower draws 10 J more than the wider" in reversed_[0]


def test_what_must_not_be_compared() -> None:
    """Other kinds and other scopes must not be ranked; the same may."""
    measured = EnergySource("a", "measured", "board-input")
    assert why_incomparable(measured, replace(measured, name="b")) is None
    assert "modelled" in (why_incomparable(measured, replace(measured, kind="modelled")) or "")
    assert "cpu-package" in (why_incomparable(measured, replace(measured, scope="cpu-package")) or "")


def test_on_off_comparison() -> None:
    """The comparison gives a difference with an interval around it; too few pairs are refused."""

    def work() -> None:
        sum(range(20_000))

    result = compare_on_off(work, lambda: Profiler(machine=Machine()), pairs=5)
    assert result.cpu_s_interval[0] <= result.cpu_s <= result.cpu_s_interval[1]
    assert result.pairs == 5
    with pytest.raises(ValueError, match="at least 3 pairs"):
        compare_on_off(lambda: None, Profiler, pairs=2)


def test_bytes_that_contradict_the_interfaces() -> None:
    """A connection cannot carry more than all interfaces together; where neither counts, nothing is said."""
    phase = PhaseRecord("fetch", 1, 1, 0, tcp_up_bytes=900, tcp_down_bytes=50_000)
    seen = {"interface_up_bytes": 400.0, "interface_down_bytes": 60_000.0, "loopback_bytes": 600.0}
    assert check_bytes(phase) is None
    assert check_bytes(replace(phase, counters=seen)) is None
    wrong = check_bytes(replace(phase, counters={**seen, "loopback_bytes": 100.0}))
    assert wrong == "the connection counts 900 TCP bytes up, all interfaces together only 500"


def test_what_fits_is_told() -> None:
    """Two sensors that agree, nested scopes that fit, and bytes that the interfaces carried are named as checked."""
    um, rapl = _energy("um", "board-input", 50_000, 1000), _energy("rapl", "cpu-package", 20_000, 1000)
    counters = {"interface_up_bytes": 900.0, "interface_down_bytes": 900.0}
    phase = PhaseRecord("sync", 1.0, 0.1, 0.1, tcp_up_bytes=500, tcp_down_bytes=800, counters=counters)
    whole = replace(record(), energies=(um, rapl, _energy("ina3221", "board-input", 50_500, 1000)), phases=(phase,))
    found = agreements(whole)
    assert "ina3221 and um agree within their bars" in found
    assert "rapl and um fit: the narrower draws no more" in found
    assert "the interfaces carried at least the connection's own TCP bytes in every phase" in found
    assert not agreements(replace(whole, energies=(), phases=(replace(phase, tcp_up_bytes=5000),)))
