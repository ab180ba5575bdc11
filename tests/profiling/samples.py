"""Records and run directories for the tests of reports."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from profiling.energy_record import EnergySource
from profiling.record import PHASES, Outcome, PhaseRecord, RoundRecord

_SECONDS = dict(zip(PHASES, (0.05, 0.09, 0.6, 0.35, 1.1, 0.1, 0.04), strict=True))
_DOWN = {"sync": 900, "query": 400, "fetch": 210_000, "report": 120}
_UP = {"sync": 300, "query": 1100, "fetch": 700, "report": 3200}


def phase(name: str, scale: float = 1.0, energy: bool = True) -> PhaseRecord:
    """One phase with plausible cost."""
    elapsed_s = _SECONDS[name] * scale
    up, down = _UP.get(name, 0), _DOWN.get(name, 0)
    return PhaseRecord(
        name=name,
        elapsed_s=elapsed_s,
        cpu_user_s=elapsed_s * 0.7,
        cpu_system_s=elapsed_s * 0.1,
        peak_rss_bytes=int((60 + 20 * elapsed_s) * (1 << 20)),
        payload_up_bytes=up,
        payload_down_bytes=down,
        mqtt_up_bytes=up + (60 if up else 0),
        mqtt_down_bytes=down + (80 if down else 0),
        energy_mj=elapsed_s * 3000 if energy else None,
        started_unix_s=1_760_000_000.0,
    )


def record(device: str = "device-1", scale: float = 1.0, energy: bool = True) -> RoundRecord:
    """One whole round."""
    return RoundRecord(
        round_id=f"{device}-r1",
        device=device,
        task_version=1,
        started_unix_s=1_760_000_000.0,
        board={"model": "Raspberry Pi 5 Model B Rev 1.0", "kind": "pi-5", "machine": "aarch64"},
        software={"coda-edge": "0.1.0", "python": "3.11.7", "runtime": "ai_edge_litert 2.3.0"},
        phases=tuple(phase(name, scale, energy) for name in PHASES),
        outcome=Outcome("activated", "hold-out log-loss fell", 31, 1900, 640, {"gain": 0.012, "auc": None}),
        energy_source=EnergySource("rapl", "measured", "cpu-package", 0.05) if energy else None,
        unmeasured={"tcp": "not counted"} | ({} if energy else {"energy": "rapl: no RAPL package domain"}),
    )


def summary(devices: int = 8, synthetic: bool = False, energy: bool = False) -> dict[str, Any]:
    """What a demo writes beside its rounds."""
    rng = random.Random(5)
    rows = [_row(f"device-{i + 1}", rng, energy) for i in range(devices)]
    numbers = [key for key, value in rows[0].items() if isinstance(value, (int, float))] if rows else []
    mean: dict[str, Any] = {key: sum(row[key] for row in rows) / len(rows) for key in numbers}
    if rows:
        mean["auc"] = {k: sum(row["auc"][k] for row in rows) / len(rows) for k in rows[0]["auc"]}
    return {
        "schema_version": 1,
        "created_unix_s": 1_760_000_000.0,
        "data": {"name": "ml-latest-small", "synthetic": synthetic, "labels": "implicit", "source": "shared"},
        "broker": {"name": "mosquitto", "version": "2.0.11", "tls": True},
        "runtime": {"name": "ai_edge_litert", "version": "2.3.0"},
        "board": {"model": "Intel(R) Xeon(R) Processor", "kind": "generic-x86", "machine": "x86_64"},
        "models": {
            "recommender": {"sha256": "ab" * 32, "size_bytes": 812_344, "parity": _parity(3e-7)},
            "classifier": {"sha256": "cd" * 32, "size_bytes": 9_312, "parity": _parity(1e-7)},
        },
        "h0": {"mean_user_auc": 0.8123},
        "devices": rows,
        "mean": mean,
        "unmeasured": {} if energy else {"energy": "rapl: no RAPL package domain in /sys/class/powercap"},
    }


def _parity(loss_error: float) -> dict[str, Any]:
    proof = {"runtime": "ai-edge-litert", "version": "2.3.0", "loss_error": loss_error, "passed": True}
    failed = {"runtime": "tflite-runtime", "version": "2.14.0", "loss_error": None, "passed": False}
    return {"passed": True, "steps": 50, "runtimes": [proof, failed]}


def _row(device: str, rng: random.Random, energy: bool) -> dict[str, Any]:
    cloud = rng.uniform(0.70, 0.88)
    local, coda = cloud + rng.gauss(-0.004, 0.008), cloud + rng.gauss(0.008, 0.007)
    better = coda > cloud
    return {
        "device": device,
        "samples_local": rng.randint(21, 60),
        "samples_matched": rng.randint(1500, 2000),
        "samples_kept": rng.randint(300, 900),
        "auc": {"cloud": cloud, "local": local, "coda": coda},
        "decision": "activated" if better else "kept-h0",
        "reason": "hold-out log-loss fell from 0.61 to 0.58" if better else "hold-out log-loss did not fall",
        "elapsed_s": rng.uniform(1.8, 3.1),
        "cpu_user_s": rng.uniform(1.0, 1.4),
        "cpu_system_s": rng.uniform(0.1, 0.2),
        "peak_rss_bytes": rng.randint(70, 86) << 20,
        "payload_up_bytes": 5300,
        "payload_down_bytes": rng.randint(180_000, 230_000),
        "mqtt_up_bytes": 5600,
        "mqtt_down_bytes": rng.randint(231_000, 240_000),
        "energy_mj": rng.uniform(5000, 7000) if energy else None,
        "energy_reason": None if energy else "rapl: no RAPL package domain in /sys/class/powercap",
    }


def write_run(folder: Path, devices: int = 8, synthetic: bool = False, energy: bool = False) -> Path:
    """A run directory with a summary and one round a device."""
    folder.mkdir(parents=True, exist_ok=True)
    values = summary(devices, synthetic, energy)
    (folder / "summary.json").write_text(json.dumps(values, indent=1))
    rounds = [record(row["device"], row["elapsed_s"] / 2.3, energy) for row in values["devices"]]
    (folder / "rounds.jsonl").write_text("".join(json.dumps(r.to_dict()) + "\n" for r in rounds))
    return folder
