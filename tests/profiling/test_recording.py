"""A recorded round comes back from its file, gives the same energies again, and plays back as a meter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hardware.rapl import Rapl
from profiling.errors import RunError
from profiling.idle import Idle
from profiling.machine import Machine
from profiling.record import RoundRecord
from profiling.recording import Recording, load_recording
from profiling.replay import ReplayMeter, recompute
from profiling.window import Profiler
from tests.hardware.trees import rapl
from tests.profiling.samples import record
from tests.profiling.test_sampler import Clock, FilePower


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Recording, RoundRecord]:
    """A round with a sampled power and a counter, two phases and one nested in them."""
    path = tmp_path / "power"
    (counter,) = rapl(tmp_path)
    clock = Clock()
    sensors = [FilePower(path), Rapl([counter.parent], clock)]
    idle = {"file": Idle(900.0, 4.0, 10.0)}
    profiler = Profiler(sensors=sensors, idle=idle, machine=Machine(), clock=clock, hz=0.01)

    def work(seconds: float) -> None:
        for step in range(round(seconds * 10)):
            path.write_text(str(2000 + 150 * (step % 7)))
            counter.write_text(f"{int(counter.read_text()) + 90_000}\n")
            clock.now_s += 0.1
            for probe in profiler.probes:
                probe.sample(clock)

    with profiler.phase("classify"):
        work(1)
    with profiler.phase("tune"):
        work(1.5)
        with profiler.phase("step"):
            work(1.2)
    whole = replace(record(), phases=profiler.phases, **profiler.round_fields())
    return profiler.recording(whole), whole


def test_file_round_trip(tmp_path: Path, recorded: tuple[Recording, RoundRecord]) -> None:
    """What is saved comes back equal."""
    recording, _ = recorded
    recording.save(tmp_path / "recordings/a.jsonl")
    assert load_recording(tmp_path / "recordings/a.jsonl") == recording
    names = {series.name for series in recording.series}
    assert {"power_mw:file", "energy_mj:rapl", "cpu_s", "rss_bytes"} <= names
    assert [phase.name for phase in recording.phases] == ["classify", "tune", "step"]
    assert recording.phases[0].begin_s == 0


def test_energies_can_be_computed_again(recorded: tuple[Recording, RoundRecord]) -> None:
    """From the raw samples alone every energy and bar of the record comes out again."""
    recording, whole = recorded
    blank = replace(
        whole,
        phases=tuple(replace(phase, energy_mj=None, energy_u95_mj=None) for phase in whole.phases),
        energies=tuple(replace(energy, gross_mj=None, u95_mj=None, net_mj=None) for energy in whole.energies),
    )
    again = recompute(recording, blank)
    for before, after in zip(whole.phases, again.phases, strict=True):
        assert before.energy_mj is not None
        assert after.energy_mj == pytest.approx(before.energy_mj, rel=1e-9)
        assert after.energy_u95_mj == pytest.approx(before.energy_u95_mj, rel=1e-9)
    for old, new in zip(whole.energies, again.energies, strict=True):
        assert (new.gross_mj, new.u95_mj) == pytest.approx((old.gross_mj, old.u95_mj), rel=1e-9)
        assert (new.net_mj is None) == (old.net_mj is None)
    assert again.energies[0].net_mj == pytest.approx(whole.energies[0].net_mj, rel=1e-9)


def test_playback_as_a_meter(recorded: tuple[Recording, RoundRecord]) -> None:
    """Played back through a profiler, the recorded power gives the recorded energy, under another clock."""
    recording, whole = recorded
    clock = Clock()
    clock.now_s = 9000.0
    meter = ReplayMeter(recording, "file", clock)
    profiler = Profiler(sensors=[meter], clock=clock)
    with profiler.phase("classify"):
        clock.now_s += recording.phases[0].end_s
    with profiler.phase("tune"):
        clock.now_s += recording.phases[1].end_s - recording.phases[1].begin_s
    assert meter.finished
    assert meter.source.name == "replay-file"
    assert profiler.energies[0].gross_mj == pytest.approx(whole.energies[0].gross_mj, rel=1e-6)


def test_playback_gives_nothing_early(recorded: tuple[Recording, RoundRecord]) -> None:
    """Samples come when their time has come, in order, each once; a power that was not recorded is refused."""
    recording, _ = recorded
    clock = Clock()
    meter = ReplayMeter(recording, clock=clock)
    begin_s, seen = clock.now_s, []
    while not meter.finished:
        clock.now_s += 0.33
        samples = meter.drain()
        assert all(at_s <= clock.now_s for at_s, _ in samples)
        seen += samples
    series = recording.find("power_mw:file")
    assert series is not None
    assert [power for _, power in seen] == list(series.values)
    assert seen[0][0] >= begin_s
    with pytest.raises(ValueError, match="no power of rapl"):
        ReplayMeter(recording, "rapl")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a whole recording"),
        (lambda text: "", "schema version None"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 7'), "schema version 7"),
        (lambda text: text.replace('"level":0', '"level":"x"', 1), "level: expected int"),
        (lambda text: text + "[]\n", "not a line of a recording"),
        (lambda text: text + '{"series":{"name":"x","times_s":[1],"values":[]}}\n', "1 times and 0 values"),
        (lambda text: text + '{"surprise":1}\n', "series: expected a map"),
        (lambda text: text.replace('"device"', '"machine"', 1), "unknown fields"),
    ],
)
def test_damaged_files(tmp_path: Path, recorded: tuple[Recording, RoundRecord], spoil: object, message: str) -> None:
    """A cut, foreign or damaged file is refused and named."""
    path = tmp_path / "a.jsonl"
    recorded[0].save(path)
    assert callable(spoil)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(RunError, match=message):
        load_recording(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(RunError, match="absent"):
        load_recording(tmp_path / "absent.jsonl")
