"""What tells a device's energy: its sensors, a meter beside it, and its idle baseline."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.scheduling.sensing import METER, NET_ENERGY, Sensing
from hardware.meters import um
from profiling.network import NetworkBytes
from tests.hardware.pseudo import device, um_frame
from tests.hardware.trees import put


def _config(tmp_path: Path, **changes: Any) -> EdgeConfig:
    values = dict.fromkeys(("ca_file", "cert_file", "key_file", "state_dir"), tmp_path)
    return EdgeConfig(**{"device": "d1", "fleet": "home", "host": "h", "port": 1, **values, **changes})


def _network() -> NetworkBytes:
    return NetworkBytes()


def _um() -> Callable[[bytes], tuple[bytes, int]]:
    """A meter whose current falls a little from frame to frame, as a real one's does; equal frames are repeats."""
    amps = 0.5

    def answer(heard: bytes) -> tuple[bytes, int]:
        nonlocal amps
        amps -= 0.0001
        return um_frame(amps=amps) * heard.count(um.ASK), len(heard)

    return answer


def test_a_meter_comes_first_and_stays_open_between_rounds(tmp_path: Path) -> None:
    """The meter tells the phases' energies in every round, over one connection, which ends with the service."""
    with device(_um()) as far:
        config = _config(tmp_path, meter=Path(far.path), meter_kind="um")
        with Sensing(config, threading.Event(), tmp_path) as sensing:
            for _ in range(2):
                source = sensing.profiler(_network).energy_source
                assert source is not None
                assert (source.kind, source.scope) == ("measured", "board-input")
            assert "meter um" in {thread.name[:8] for thread in threading.enumerate()}
        assert "meter um" not in {thread.name[:8] for thread in threading.enumerate()}


def test_a_meter_that_is_not_there_stops_no_round(tmp_path: Path) -> None:
    """The record says why there is no energy; a meter that is plugged in later serves the next round."""
    port = tmp_path / "ttyUSB0"
    with Sensing(_config(tmp_path, meter=port, meter_kind="um"), threading.Event(), tmp_path) as sensing:
        profiler = sensing.profiler(_network)
        assert profiler.energy_source is None
        assert str(port) in profiler.unmeasured["energy"]
        assert METER in profiler.unmeasured["energy"]
        with device(_um()) as far:
            port.symlink_to(far.path)
            assert sensing.profiler(_network).energy_source is not None


def test_net_energy_needs_a_baseline(tmp_path: Path) -> None:
    """Without seconds to watch the board at idle there is no net energy, and the record says why."""
    with device(_um()) as far:
        config = _config(tmp_path, meter=Path(far.path), meter_kind="um")
        with Sensing(config, threading.Event(), tmp_path) as sensing:
            fields = sensing.round_fields(sensing.profiler(_network))
            assert "idle_s is 0" in fields["unmeasured"][NET_ENERGY]


def test_the_baseline_is_measured_once(tmp_path: Path) -> None:
    """A counter that rises by a known power gives that power as the idle one, in every round of the service."""
    package = "sys/class/powercap/intel-rapl:0"
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "1000000000"), ("energy_uj", "0")):
        put(tmp_path, f"{package}/{name}", text)
    put(tmp_path, "proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0")
    stop, done = threading.Event(), threading.Event()

    def rise() -> None:
        begin_s = time.monotonic()
        while not done.wait(0.005):
            part = tmp_path / "energy.part"
            part.write_text(f"{(time.monotonic() - begin_s) * 3e6:.0f}\n")  # 3 W
            part.replace(tmp_path / package / "energy_uj")

    thread = threading.Thread(target=rise, daemon=True)
    thread.start()
    try:
        with Sensing(_config(tmp_path, idle_s=1.0), stop, tmp_path) as sensing:
            for _ in range(2):
                profiler = sensing.profiler(_network)
                with profiler.phase("tune"):
                    done.wait(0.05)
                fields = sensing.round_fields(profiler)
                # What writes the counter may itself be late on a busy machine.
                assert fields["energies"][0].idle_mw == pytest.approx(3000, rel=0.5)
                assert fields["energies"][0].net_mj is not None
                assert NET_ENERGY not in fields["unmeasured"]
    finally:
        done.set()
        thread.join()


def test_being_told_to_stop_cuts_the_baseline_short(tmp_path: Path) -> None:
    """A service that is to end does not sit out its baseline."""
    with device(_um()) as far:
        config = _config(tmp_path, meter=Path(far.path), meter_kind="um", idle_s=600.0)
        stop = threading.Event()
        stop.set()
        with Sensing(config, stop, tmp_path) as sensing:
            fields = sensing.round_fields(sensing.profiler(_network))
        assert "too few readings" in fields["unmeasured"][NET_ENERGY]


def test_a_damaged_calibration_is_told(tmp_path: Path) -> None:
    """It is an error of the configuration that names it, not a silently uncorrected energy."""
    (tmp_path / "abc.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"abc\.json"):
        Sensing(_config(tmp_path, calibrations=tmp_path), threading.Event(), tmp_path)


def test_a_device_without_a_meter_loads_no_serial_port() -> None:
    """What speaks to meters is loaded where the configuration names one, and nowhere else."""
    code = (
        "import sys, edge.service; print([m for m in sys.modules if m == 'serial' or m.startswith('hardware.meters')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
