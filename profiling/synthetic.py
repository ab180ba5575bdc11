"""Made-up recordings of a Raspberry Pi 5 and a Jetson Orin Nano, for documentation and tests. They measure nothing.

The shapes are plausible (a board that idles, computes and talks), every number comes from a generator, and all that is
written says so. What is real is the way from samples to report: the recordings are replayed through the same
integration that a board's rounds go through.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiling.energy_record import EnergyRecord, EnergySource, Overhead
from profiling.record import PHASES, Outcome, PhaseRecord, RoundRecord
from profiling.recording import RECORDINGS_FOLDER, RecordedPhase, RecordedSeries, RecordedSource, Recording
from profiling.replay import recompute
from profiling.run import ROUNDS_FILE, SUMMARY_FILE

_MIB = 1 << 20
_EPOCH_S = 1_767_225_600.0
_DOWN = {"sync": 900, "query": 400, "fetch": 214_000, "report": 120}
_UP = {"sync": 300, "query": 1100, "fetch": 700, "report": 3200}


@dataclass(frozen=True)
class SyntheticBoard:
    """How a made-up board behaves.

    Attributes:
        board: As a round's record holds it.
        source: Its power sensor.
        sample_hz: Of that sensor.
        latency_s: Of that sensor.
        idle_mw: Power at idle.
        compute_mw: Added by one busy processor.
        talk_mw: Added by the radio.
        seconds: Of each phase.
    """

    board: dict[str, Any]
    source: EnergySource
    sample_hz: float
    latency_s: float
    idle_mw: float
    compute_mw: float
    talk_mw: float
    seconds: dict[str, float]


PI_5 = SyntheticBoard(
    board={"model": "Raspberry Pi 5 Model B Rev 1.0", "kind": "pi-5", "machine": "aarch64", "cpu_count": 4},
    source=EnergySource(
        "pi5-pmic+community", "measured-corrected", "board-input", 0.10, "twelve rails; correction of unknown origin"
    ),
    sample_hz=10.0,
    latency_s=1 / 21,
    idle_mw=3300.0,
    compute_mw=1500.0,
    talk_mw=350.0,
    seconds=dict(zip(PHASES, (0.3, 0.5, 2.4, 1.6, 5.2, 0.5, 0.2), strict=True)),
)
ORIN_NANO = SyntheticBoard(
    board={"model": "Jetson Orin Nano", "kind": "jetson-orin-nano", "machine": "aarch64", "cpu_count": 6},
    source=EnergySource("ina3221", "measured", "board-input", 0.05, "rail VDD_IN, at the module's regulator"),
    sample_hz=10.0,
    latency_s=0.01,
    idle_mw=4700.0,
    compute_mw=1300.0,
    talk_mw=250.0,
    seconds=dict(zip(PHASES, (0.25, 0.45, 2.1, 1.2, 3.9, 0.4, 0.2), strict=True)),
)


def synthetic_round(board: SyntheticBoard, device: str, seed: int) -> tuple[RoundRecord, Recording]:
    """One made-up round and its raw samples; the record's energies are computed from the samples."""
    rng = random.Random(f"{device} {seed}")  # noqa: S311 (a reproducible example, not a secret)
    phases, windows, at_s = [], [], 0.0
    for name in PHASES:
        phase = _phase(name, board.seconds[name] * rng.uniform(0.85, 1.15), rng, _EPOCH_S + at_s)
        windows.append(RecordedPhase(name, 0, at_s, at_s + phase.elapsed_s, {}, {}))
        phases.append(phase)
        at_s += phase.elapsed_s + 0.004
    record = RoundRecord(
        round_id=f"{device}-{seed}",
        device=device,
        task_version=1,
        started_unix_s=_EPOCH_S,
        board=board.board,
        software={"coda-edge": "synthetic"},
        phases=tuple(phases),
        outcome=Outcome("activated", "made up", 31, 1900, 640),
        energy_source=board.source,
        energies=(EnergyRecord(board.source, at_s, idle_mw=board.idle_mw, idle_u95_mw=board.idle_mw * 0.01),),
        unmeasured={"tcp": "a synthetic round has no connection", "auc": "a synthetic round has no model"},
        emulated=("board",),
        overhead=Overhead(cpu_s=0.02, cpu_share=0.02 / at_s),
        conditions={"governor": "ondemand", "temperature_c_max": round(rng.uniform(48, 61), 1)},
    )
    series = tuple(_series(board, windows, phases, rng))
    source = RecordedSource(board.source, counts=False, latency_s=board.latency_s)
    recording = Recording(
        device, record.round_id, _EPOCH_S, board.board, True, (source,), tuple(windows), series  # synthetic
    )  # fmt: skip
    return recompute(recording, record), recording


def write_synthetic_run(run_dir: Path, board: SyntheticBoard, devices: int = 6, slower: float = 1.0) -> Path:
    """Write a run directory of made-up rounds, each with its recording, and return it.

    Args:
        run_dir: Where.
        board: What is made up.
        devices: How many, one round each.
        slower: Stretches the tuning phase, to have something for a comparison to find.
    """
    board = replace(board, seconds={**board.seconds, "tune": board.seconds["tune"] * slower})
    rounds = [synthetic_round(board, f"device-{number}", 1) for number in range(1, devices + 1)]
    run_dir.mkdir(parents=True, exist_ok=True)
    for record, recording in rounds:
        recording.save(run_dir / RECORDINGS_FOLDER / f"{record.device}.jsonl")
    records = [record for record, _ in rounds]
    (run_dir / ROUNDS_FILE).write_text("".join(json.dumps(record.to_dict()) + "\n" for record in records))
    (run_dir / SUMMARY_FILE).write_text(json.dumps(_summary(board, records), indent=2) + "\n")
    return run_dir


def _phase(name: str, elapsed_s: float, rng: random.Random, unix_s: float) -> PhaseRecord:
    busy = 0.15 if name in _DOWN else 0.97
    up, down = _UP.get(name, 0), round(_DOWN.get(name, 0) * rng.uniform(0.97, 1.03))
    return PhaseRecord(
        name=name,
        elapsed_s=elapsed_s,
        cpu_user_s=elapsed_s * busy * 0.9,
        cpu_system_s=elapsed_s * busy * 0.1,
        peak_rss_bytes=int((58 + (18 if name == "tune" else 9 if name in ("classify", "fetch") else 3)) * _MIB),
        payload_up_bytes=up,
        payload_down_bytes=down,
        mqtt_up_bytes=up + (60 if up else 0),
        mqtt_down_bytes=down + (80 if down else 0),
        started_unix_s=unix_s,
    )


def _series(
    board: SyntheticBoard, windows: list[RecordedPhase], phases: list[PhaseRecord], rng: random.Random
) -> Iterator[RecordedSeries]:
    end_s, at_s = windows[-1].end_s + 0.3, -0.3
    times, powers, busy_s, memory = [], [], [], []
    used_s = 0.0
    while at_s < end_s:
        step_s = rng.uniform(0.75, 1.25) / board.sample_hz
        place = next((i for i, window in enumerate(windows) if window.begin_s <= at_s < window.end_s), None)
        talks = place is not None and phases[place].name in _DOWN
        busy = 0.0 if place is None else 0.15 if talks else 0.97
        power_mw = board.idle_mw + board.compute_mw * busy + (board.talk_mw if talks else 0)
        times.append(round(at_s, 4))
        powers.append(round(power_mw * rng.gauss(1, 0.02), 1))
        busy_s.append(round(used_s, 4))
        memory.append(float(56 * _MIB if place is None else phases[place].peak_rss_bytes or 0) * rng.uniform(0.97, 1))
        used_s += busy * step_s
        at_s += step_s
    for name, values in ((f"power_mw:{board.source.name}", powers), ("cpu_s", busy_s), ("rss_bytes", memory)):
        yield RecordedSeries(name, tuple(times), tuple(values))


def _summary(board: SyntheticBoard, records: list[RoundRecord]) -> dict[str, Any]:
    fields = (
        "elapsed_s", "cpu_user_s", "cpu_system_s", "peak_rss_bytes", "payload_up_bytes", "payload_down_bytes",
        "mqtt_up_bytes", "mqtt_down_bytes", "energy_mj",
    )  # fmt: skip
    rows = [
        {
            "device": record.device,
            "samples_local": record.outcome.samples_local,
            "samples_matched": record.outcome.samples_matched,
            "samples_kept": record.outcome.samples_kept,
            "decision": record.outcome.decision,
            "reason": record.outcome.reason,
            **{name: getattr(record.totals, name) for name in fields},
        }
        for record in records
    ]
    return {
        "schema_version": 1,
        "created_unix_s": _EPOCH_S,
        "data": {"name": "made-up rounds", "synthetic": True, "labels": None, "source": "profiling.synthetic"},
        "board": board.board,
        "devices": rows,
        "unmeasured": {"everything": "the run is synthetic: it shows the report, not a board"},
    }
