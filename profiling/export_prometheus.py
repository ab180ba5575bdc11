"""A run's latest rounds in the Prometheus text format, for a node exporter's textfile collector or a scrape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from profiling.metrics import METRICS, by_phase
from profiling.record import RoundRecord

# Prometheus wants base units and the unit at the end of the name.
_NAMES = {
    "elapsed_s": ("elapsed_seconds", 1.0),
    "cpu_s": ("cpu_seconds", 1.0),
    "peak_rss_bytes": ("peak_rss_bytes", 1.0),
    "mqtt_up_bytes": ("mqtt_up_bytes", 1.0),
    "mqtt_down_bytes": ("mqtt_down_bytes", 1.0),
    "energy_mj": ("energy_joules", 1e-3),
}


def to_prometheus(rounds: Sequence[RoundRecord]) -> str:
    """The last round of each device as gauges by device and phase. What was not measured has no line."""
    latest = {record.device: record for record in rounds}.values()
    lines = []
    for metric in METRICS:
        name, scale = _NAMES[metric.name]
        lines += [f"# HELP coda_round_{name} {metric.label} of the last round.", f"# TYPE coda_round_{name} gauge"]
        for record in latest:
            for phase, values in by_phase(record).items():
                value = metric.read(values)
                if value is not None:
                    labels = {"device": record.device, "phase": phase, **_energy_labels(record, metric.name)}
                    lines.append(f"coda_round_{name}{_labels(labels)} {value * scale:.10g}")
    lines += [
        "# HELP coda_round_flagged The last round's numbers must not be compared.",
        "# TYPE coda_round_flagged gauge",
    ]
    lines += [f"coda_round_flagged{_labels({'device': r.device})} {int(bool(r.flags))}" for r in latest]
    return "\n".join(lines) + "\n"


def _energy_labels(record: RoundRecord, metric: str) -> Mapping[str, str]:
    source = record.energy_source
    if metric != "energy_mj" or source is None:
        return {}
    return {"kind": source.kind, "scope": source.scope}


def _labels(labels: Mapping[str, str]) -> str:
    escaped = (
        (name, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, text in labels.items()
    )
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped) + "}"
