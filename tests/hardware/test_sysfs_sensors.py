"""Sensors that live in sysfs: INA3221 of both JetPacks, batteries, hwmon, and the modelled fallback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.battery import find_battery
from hardware.board import identify
from hardware.discovery import find_sensors
from hardware.errors import SensorError
from hardware.hwmon import HwmonEnergy, HwmonPower, find_hwmon
from hardware.ina3221 import Ina3221, find_ina3221
from hardware.modelled import LinearModel, ModelledEnergy, model_for
from hardware.sensor import EnergySensor, PowerSensor, Scope
from tests.hardware.trees import ina_hwmon, ina_iio, jetson, pi, put, rapl


def _power(found: object) -> PowerSensor:
    assert isinstance(found, PowerSensor), found
    return found


def test_ina_input_rail_alone(tmp_path: Path) -> None:
    """On an Orin Nano the total is VDD_IN alone; sub-rails, NC and in7 are never added."""
    ina_hwmon(tmp_path, "1-0040", 3, {"VDD_IN": (5000, 436), "VDD_CPU_GPU_CV": (4900, 120), "NC": (1, 99)})
    sensor = _power(find_ina3221(tmp_path))
    assert sensor.power_mw() == pytest.approx(2180)
    assert sensor.source.scope is Scope.BOARD_INPUT


def test_ina_agx_sums_to_module(tmp_path: Path) -> None:
    """An AGX Orin has no input rail: its rails on two chips are summed and the scope says module."""
    rails = {"VDD_GPU_SOC": (19000, 200), "VDD_CPU_CV": (19000, 100), "VIN_SYS_5V0": (5000, 800)}
    ina_hwmon(tmp_path, "1-0040", 1, rails)
    ina_hwmon(tmp_path, "1-0041", 2, {"VDDQ_VDD2_1V8AO": (1800, 500), "NC": (5, 5)})
    sensor = _power(find_ina3221(tmp_path))
    assert sensor.power_mw() == pytest.approx(3800 + 1900 + 4000 + 900)
    assert sensor.source.scope is Scope.MODULE
    assert "no input rail" in sensor.source.note


def test_ina_jetpack4(tmp_path: Path) -> None:
    """A Nano's iio files give milliwatts; POM_5V_IN alone is the total."""
    ina_iio(tmp_path, {"POM_5V_IN": 933, "POM_5V_GPU": 10, "POM_5V_CPU": 84})
    assert _power(find_ina3221(tmp_path)).power_mw() == 933


def test_ina_renumbered(tmp_path: Path) -> None:
    """A driver that is loaded again under another hwmon number is found again."""
    folder = ina_hwmon(tmp_path, "1-0040", 3, {"VDD_IN": (5000, 400)})
    sensor = _power(find_ina3221(tmp_path))
    folder.rename(folder.parent / "hwmon7")
    assert sensor.power_mw() == pytest.approx(2000)


@pytest.mark.parametrize("content", ["", "garbage", "12.5"])
def test_ina_faults(tmp_path: Path, content: str) -> None:
    """A file that is empty or holds no integer is an error, also as one of several rails."""
    folder = ina_hwmon(tmp_path, "1-0040", 1, {"CPU": (5000, 100), "GPU": (5000, 100)})
    sensor = Ina3221(tmp_path)
    (folder / "curr2_input").write_text(f"{content}\n")
    with pytest.raises(SensorError, match="curr2_input"):
        sensor.power_mw()


def test_ina_rail_that_vanishes(tmp_path: Path) -> None:
    """A missing rail makes the sum an error, not a smaller number; a negative rail is one too."""
    first = ina_hwmon(tmp_path, "1-0040", 1, {"CPU": (5000, 100)})
    second = ina_hwmon(tmp_path, "1-0041", 2, {"GPU": (5000, 100)})
    sensor = Ina3221(tmp_path)
    (first / "curr1_input").write_text("-100\n")
    with pytest.raises(SensorError, match="negative"):
        sensor.power_mw()
    shutil.rmtree(second)
    with pytest.raises(SensorError, match="GPU vanished"):
        sensor.power_mw()


def test_ina_label_that_cannot_be_read(tmp_path: Path) -> None:
    """Without its label, the input rail might be missed and its parts be added up in its place: no sensor then."""
    folder = ina_hwmon(tmp_path, "1-0040", 1, {"VDD_IN": (5000, 900), "CPU": (5000, 100)})
    (folder / "in1_label").write_text("")
    assert "not known which rail" in str(find_ina3221(tmp_path))


def _battery(root: Path, status: str, **files: int) -> Path:
    put(root, "sys/class/power_supply/BAT0/type", "Battery")
    put(root, "sys/class/power_supply/BAT0/status", status)
    put(root, "sys/class/power_supply/AC/type", "Mains")
    for name, value in files.items():
        put(root, f"sys/class/power_supply/BAT0/{name}", value)
    return root / "sys/class/power_supply/BAT0"


def test_battery(tmp_path: Path) -> None:
    """Power comes from power_now, else from volts times amperes; a sign for the direction does not matter."""
    _battery(tmp_path / "a", "Discharging", power_now=-7_250_000)
    _battery(tmp_path / "b", "Discharging", voltage_now=7_600_000, current_now=500_000)
    assert _power(find_battery(tmp_path / "a")).power_mw() == pytest.approx(7250)
    assert _power(find_battery(tmp_path / "b")).power_mw() == pytest.approx(3800)


def test_battery_that_charges(tmp_path: Path) -> None:
    """A battery that does not discharge tells nothing: it is absent, and stops telling when the plug comes in."""
    folder = _battery(tmp_path, "Charging", power_now=9_000_000)
    assert "BAT0 is Charging" in str(find_battery(tmp_path))
    (folder / "status").write_text("Discharging")
    sensor = _power(find_battery(tmp_path))
    (folder / "status").write_text("Full")
    with pytest.raises(SensorError, match="Full"):
        sensor.power_mw()
    assert "no battery" in str(find_battery(tmp_path / "none"))


def test_battery_without_power(tmp_path: Path) -> None:
    """A gauge that says nothing is drawn while the machine runs on it is not believed."""
    _battery(tmp_path, "Discharging", power_now=0)
    assert "discharges with no power" in str(find_battery(tmp_path))


def _hwmon(root: Path, number: int, chip: str, **files: int | str) -> Path:
    folder = f"sys/class/hwmon/hwmon{number}"
    put(root, f"{folder}/name", chip)
    for name, value in files.items():
        put(root, f"{folder}/{name}", value)
    return root / folder


def test_hwmon_power_and_energy(tmp_path: Path) -> None:
    """Microwatts become milliwatts and microjoules millijoules, named by chip and label."""
    _hwmon(tmp_path, 0, "ina226", power1_input=2_500_000, power1_label="vin")
    folder = _hwmon(tmp_path, 1, "amd_energy", energy1_input=10_000)
    found = find_hwmon(tmp_path)
    assert isinstance(found, list)
    power, energy = found
    assert isinstance(power, HwmonPower)
    assert isinstance(energy, HwmonEnergy)
    (folder / "energy1_input").write_text("35000\n")
    assert (power.source.name, power.power_mw()) == ("hwmon-ina226-vin", 2500)
    assert (energy.source.name, energy.energy_mj()) == ("hwmon-amd_energy-energy1", 25)


def test_hwmon_swapped_numbers(tmp_path: Path) -> None:
    """When two chips swap numbers, each sensor follows its own chip and never reads the other's file."""
    first = _hwmon(tmp_path, 0, "ina226", power1_input=1_000_000)
    second = _hwmon(tmp_path, 1, "amdgpu", power1_average=9_000_000)
    (second / "power1_input").write_text("7000000\n")
    found = find_hwmon(tmp_path)
    assert isinstance(found, list)
    sensor = next(s for s in found if s.source.name == "hwmon-ina226-power1")
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    assert _power(sensor).power_mw() == 1000


def test_hwmon_faults(tmp_path: Path) -> None:
    """A counter that falls, a negative power and a vanished chip are errors."""
    folder = _hwmon(tmp_path, 0, "chip", energy1_input=50, power1_input=5)
    found = find_hwmon(tmp_path)
    assert isinstance(found, list)
    power, energy = _power(found[0]), found[1]
    assert isinstance(energy, EnergySensor)
    (folder / "energy1_input").write_text("40\n")
    (folder / "power1_input").write_text("-5\n")
    with pytest.raises(SensorError, match="fell from 50 to 40"):
        energy.energy_mj()
    with pytest.raises(SensorError, match="negative"):
        power.power_mw()
    shutil.rmtree(folder)
    with pytest.raises(SensorError, match="No such file"):
        power.power_mw()
    assert "no power or energy input" in str(find_hwmon(tmp_path))


def _stat(root: Path, busy: int, idle: int) -> None:
    put(root, "proc/stat", f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0 0 0")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=20))
def test_model_is_the_line_over_busy_time(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """Energy is idle power over the time plus slope over the busy share, and never falls."""
    root = tmp_path_factory.mktemp("model")
    now_s, busy, idle = 0.0, 0, 0
    _stat(root, busy, idle)
    model = LinearModel("test", 2000, 3000)
    sensor = ModelledEnergy(model, root, lambda: now_s)
    expected, last = 0.0, 0.0
    for busy_ticks, idle_ticks in steps:
        busy, idle, now_s = busy + busy_ticks, idle + idle_ticks, now_s + (busy_ticks + idle_ticks) / 400
        _stat(root, busy, idle)
        expected += 2000 * (busy_ticks + idle_ticks) / 400 + 3000 * busy_ticks / 400
        energy = sensor.energy_mj()
        assert energy >= last - 1e-9
        last = energy
    assert last == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "revision", "machine", "idle_mw"),
    [
        ("Raspberry Pi 4 Model B Rev 1.1", 0xC03111, "aarch64", 2307.3),
        ("Raspberry Pi 4 Model B Rev 1.4", 0xC03114, "aarch64", 2285.7),
        ("Raspberry Pi 4 Model B Rev 1.4", 0xC03114, "armv7l", 2243.4),
        ("Raspberry Pi 5 Model B Rev 1.0", 0xC04170, "aarch64", 4403.2),
        ("Raspberry Pi Zero 2 W Rev 1.0", 0x902120, "aarch64", None),
    ],
)
def test_model_by_board(tmp_path: Path, kind: str, revision: int, machine: str, idle_mw: float | None) -> None:
    """The nearest published fit is chosen by revision and word size; a board without one has none."""
    model = model_for(identify(pi(tmp_path, kind, revision), machine))
    assert (model.idle_mw if model else None) == idle_mw


def test_model_must_rise() -> None:
    """A model that falls with utilisation is refused."""
    with pytest.raises(SensorError, match="must not fall"):
        LinearModel("bad", 8700, -5000)


def test_model_without_stat(tmp_path: Path) -> None:
    """A /proc/stat that vanishes or is cut is an error."""
    _stat(tmp_path, 1, 1)
    sensor = ModelledEnergy(LinearModel("test", 2000, 3000), tmp_path)
    put(tmp_path, "proc/stat", "cpu  1 2 3")
    with pytest.raises(SensorError, match="no line of the sum"):
        sensor.energy_mj()
    (tmp_path / "proc/stat").unlink()
    with pytest.raises(SensorError, match="No such file"):
        sensor.energy_mj()


def test_discovery_prefers_measured_and_wide(tmp_path: Path) -> None:
    """The widest measured scope comes first and a model last; what no board of the family has is not looked for."""
    pi(tmp_path / "pi", "Raspberry Pi 4 Model B Rev 1.4", 0xC03114)
    jetson(tmp_path / "jetson", "nvidia,p3768-0000+p3767-0005")
    put(tmp_path / "pc", "proc/cpuinfo", "")
    for name in ("pi", "jetson", "pc"):
        root = tmp_path / name
        _stat(root, 1, 1)
        rapl(root)
        _hwmon(root, 0, "ina226", power1_input=2_500_000)
        ina_hwmon(root, "1-0040", 3, {"VDD_IN": (5000, 436)})
        _battery(root, "Discharging", power_now=7_250_000)
    found = {name: [s.source.name for s in find_sensors(tmp_path / name).sensors] for name in ("pi", "jetson", "pc")}
    assert found == {
        "pi": ["battery", "hwmon-ina226-power1", "modelled"],
        "jetson": ["ina3221", "battery", "hwmon-ina226-power1"],
        "pc": ["battery", "rapl", "hwmon-ina226-power1"],
    }
