"""The tables of a run's report: every device, and every phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profiling import figures, page, units
from profiling.record import PhaseRecord
from profiling.summary import device_row, mapping, plural


def largest_peak(records: Sequence[PhaseRecord]) -> int | None:
    """Largest peak memory in bytes, or None where none was measured."""
    return max((r.peak_rss_bytes for r in records if r.peak_rss_bytes is not None), default=None)


def device_table(devices: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """One row a device and their mean."""
    columns = [
        page.Column("device", words=True),
        *(page.Column(name, group="samples") for name in ("local", "matched", "kept")),
        *(page.Column(name, group="test AUC") for name in ("cloud", "local", "CoDA", "gain")),
        page.Column("gate's decision", words=True),
        *(page.Column(name, group="time") for name in ("wall", "CPU user", "CPU system")),
        page.Column("peak memory"),
        *(page.Column(name, group="MQTT bytes") for name in ("up", "down")),
        page.Column("energy"),
        page.Column("why", words=True),
    ]
    rows = [_device_cells(row) for row in devices]
    strong: tuple[int, ...] = ()
    if "mean" in summary:
        rows.append(_device_cells(device_row({"device": "mean", **mapping(summary, "mean")})))
        strong = (len(rows) - 1,)
    activated = sum(row["decision"] == "activated" for row in devices)
    title = f"The gate let {activated} of {plural(len(devices), 'personal model')} serve"
    return page.section(title, page.table(columns, rows, strong))


def _device_cells(row: Mapping[str, Any]) -> list[str]:
    auc = row["auc"]
    return [
        str(row["device"]),
        *(units.count(row[f"samples_{name}"]) for name in ("local", "matched", "kept")),
        *(units.fraction(auc[arm]) for arm in ("cloud", "local", "coda")),
        units.change(row["gain"]),
        row["decision"] or "",
        units.seconds(row["elapsed_s"]),
        units.seconds(row["cpu_user_s"]),
        units.seconds(row["cpu_system_s"]),
        units.size(row["peak_rss_bytes"]),
        units.size(row["mqtt_up_bytes"]),
        units.size(row["mqtt_down_bytes"]),
        units.energy(row["energy_mj"]),
        row["reason"] or "",
    ]


def phase_table(phases: figures.PhaseValues) -> str:
    """One row a phase, over all rounds."""
    if not phases:
        return ""
    columns = [page.Column("phase", words=True)]
    columns += [page.Column(name, group="time, mean") for name in ("wall", "CPU user", "CPU system")]
    columns += [page.Column("peak memory, largest")]
    columns += [page.Column(name, group="payload bytes, mean") for name in ("up", "down")]
    columns += [page.Column(name, group="MQTT bytes, mean") for name in ("up", "down")]
    columns += [page.Column(name, group="TCP bytes, mean") for name in ("up", "down")]
    columns += [page.Column("energy, mean")]
    rows = [_phase_cells(name, records) for name, records in phases.items()]
    return page.section("Every phase in numbers", page.table(columns, rows))


def counter_table(phases: figures.PhaseValues) -> str:
    """What the system counted beside the process itself, one row a phase; empty where it counted nothing."""
    seen = {name for records in phases.values() for record in records for name in record.counters}
    shown = [(name, column, text) for name, column, text in _COUNTERS if name in seen]
    if not shown:
        return ""
    columns = [page.Column("phase", words=True), *(column for _, column, _ in shown)]
    rows = [
        [phase, *(text(figures.mean([r.counters.get(name) for r in records])) for name, _, text in shown)]
        for phase, records in phases.items()
    ]
    note = "Means over rounds. Stalls, interface bytes and loopback are the whole machine's, whoever caused them."
    return page.section("What the system counted meanwhile", page.paragraph(note, "muted"), page.table(columns, rows))


_SWITCHES, _STALLS, _STORAGE = "context switches", "waiting for", "storage bytes"
_GROUP, _NETWORK = "control group's CPU", "interface bytes"
_COUNTERS = (
    ("context_switches_voluntary", page.Column("own", group=_SWITCHES), units.count),
    ("context_switches_involuntary", page.Column("forced", group=_SWITCHES), units.count),
    ("stall_cpu_s", page.Column("processor", group=_STALLS), units.seconds),
    ("stall_memory_s", page.Column("memory", group=_STALLS), units.seconds),
    ("stall_io_s", page.Column("storage", group=_STALLS), units.seconds),
    ("page_faults_major", page.Column("pages from disk"), units.count),
    ("io_read_bytes", page.Column("read", group=_STORAGE), units.size),
    ("io_write_bytes", page.Column("written", group=_STORAGE), units.size),
    ("cgroup_cpu_user_s", page.Column("user", group=_GROUP), units.seconds),
    ("cgroup_cpu_system_s", page.Column("system", group=_GROUP), units.seconds),
    ("interface_up_bytes", page.Column("up", group=_NETWORK), units.size),
    ("interface_down_bytes", page.Column("down", group=_NETWORK), units.size),
    ("loopback_bytes", page.Column("loopback", group=_NETWORK), units.size),
)


def _phase_cells(name: str, records: Sequence[PhaseRecord]) -> list[str]:
    def mean(field: str) -> float | None:
        return figures.mean([getattr(record, field) for record in records])

    traffic = [f"{layer}_{way}_bytes" for layer in ("payload", "mqtt", "tcp") for way in ("up", "down")]
    return [
        name,
        *(units.seconds(mean(field)) for field in ("elapsed_s", "cpu_user_s", "cpu_system_s")),
        units.size(largest_peak(records)),
        *(units.size(mean(field)) for field in traffic),
        units.energy(mean("energy_mj")),
    ]
