"""The part of a run's report that speaks of energy, of the rounds' fairness and of what measuring cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from profiling import figures, page, units
from profiling.crosscheck import agreements, contradictions
from profiling.energy_record import EnergyRecord, EnergySource
from profiling.record import RoundRecord


def energy_section(rounds: Sequence[RoundRecord], phases: figures.PhaseValues) -> str:
    """Energy by phase and by sensor, with kind, scope and bars; empty where no round has an energy."""
    records = [energy for record in rounds for energy in record.energies if energy.gross_mj is not None]
    sources = {record.energy_source for record in rounds if record.energy_source is not None}
    known = [record.totals.energy_mj for record in rounds if record.totals.energy_mj is not None]
    if not known or not sources:
        return ""
    title = f"A round draws {units.energy(figures.mean(known))}" + _whole_bar(records)
    mixed = len({(source.kind, source.scope) for source in sources}) > 1
    warning = page.banner("Different sources.", "These values do not compare with one another.") if mixed else ""
    described = [_describe(source) for source in sorted(sources, key=lambda source: source.name)]
    note = "Energy by phase, gross: idling is in it. " + " ".join(described)
    parts = [warning, page.paragraph(note, "muted")]
    if any(phase.energy_mj is not None for rows in phases.values() for phase in rows):
        parts.append(figures.energy_figure(phases))
        parts.append(_too_short(phases))
    parts.append(_sensor_table(rounds))
    return page.section(title, *parts)


def _too_short(phases: figures.PhaseValues) -> str:
    """Which phases have no energy of their own."""
    short = [name for name, rows in phases.items() if all(phase.energy_mj is None for phase in rows)]
    if not short:
        return ""
    return page.paragraph(f"No number of their own: {', '.join(short)} (too short for enough samples).", "muted small")


def fairness_section(rounds: Sequence[RoundRecord]) -> str:
    """Rounds that must not be compared, the machine's state, and the profiler's own cost."""
    flagged = [record for record in rounds if record.flags]
    overheads = [record.overhead for record in rounds if record.overhead is not None]
    conditions: dict[str, set[Any]] = {}
    for record in rounds:
        for name, value in record.conditions.items():
            conditions.setdefault(name, set()).add(value)
    rows = [(_label(name), _span(name, values)) for name, values in sorted(conditions.items())]
    if overheads:
        share = max(overhead.cpu_share for overhead in overheads)
        seconds = figures.mean([overhead.cpu_s for overhead in overheads])
        cost = f"{units.seconds(seconds)} of processor a round, at most {share:.1%} of one processor"
        rows.append(("measuring itself", cost))
        drawn = figures.mean([overhead.energy_mj for overhead in overheads])
        if drawn is not None:
            rows.append(("", f"about {units.energy(drawn)} a round, by its share of processor time"))
    sentences = Counter(sentence for record in rounds for sentence in agreements(record))
    rows += [("cross-checked", f"{text} ({times} of {len(rounds)} rounds)") for text, times in sentences.items()]
    banners = [page.banner(f"{record.device}:", f"flagged {', '.join(record.flags)}") for record in flagged]
    banners += [page.banner(f"{r.device}:", sentence) for r in rounds for sentence in contradictions(r)]
    if not rows and not banners:
        return ""
    title = f"{len(flagged)} of {len(rounds)} rounds must not be compared" if flagged else "The machine kept its pace"
    if not flagged and "throttling" in {name for record in rounds for name in record.unmeasured}:
        title = "Conditions, and what measuring cost"
    return page.section(title, *banners, page.definitions(rows))


def _describe(source: EnergySource) -> str:
    bar = "error not stated" if source.relative_u95 is None else f"±{source.relative_u95:.0%} at 95%"
    note = f" ({source.note})" if source.note else ""
    return f"Source: {source.name}, {source.kind}, scope {source.scope}, {bar}{note}."


def _whole_bar(records: Sequence[EnergyRecord]) -> str:
    bars = [energy.u95_mj / energy.gross_mj for energy in records if energy.u95_mj is not None and energy.gross_mj]
    return f", known to ±{max(bars):.0%}" if bars else ""


def _sensor_table(rounds: Sequence[RoundRecord]) -> str:
    columns = [page.Column("device", words=True), page.Column("sensor", words=True)]
    columns += [page.Column("kind", words=True), page.Column("scope", words=True)]
    columns += [page.Column(name, group="energy") for name in ("gross", "± 95%", "net of idle", "± 95% ")]
    columns += [page.Column(name) for name in ("idle power", "samples a second", "gaps", "faults")]
    columns += [page.Column("why not", words=True)]
    rows = [_sensor_cells(record.device, energy) for record in rounds for energy in record.energies]
    return page.table(columns, rows) if rows else ""


def _sensor_cells(device: str, energy: EnergyRecord) -> list[str]:
    source = energy.source
    return [
        device,
        source.name,
        source.kind,
        source.scope,
        units.energy(energy.gross_mj),
        units.energy(energy.u95_mj),
        units.energy(energy.net_mj),
        units.energy(energy.net_u95_mj),
        units.power(energy.idle_mw),
        units.MISSING if energy.rate_hz is None else f"{energy.rate_hz:.1f}",
        units.seconds(energy.gap_s),
        units.count(energy.faults),
        energy.reason or "",
    ]


_LABELS = {
    "frequency_mhz_mean": "mean clock rate (MHz)",
    "frequency_mhz_min": "lowest clock rate (MHz)",
    "temperature_c_max": "highest temperature (\N{DEGREE SIGN}C)",
    "pss_bytes": "proportional memory",
    "private_bytes": "private memory",
    "swap_bytes": "memory swapped out",
}
_WHEN = {"_begin": " at the beginning", "_end": " at the end"}


def _label(name: str) -> str:
    for begin, label in _LABELS.items():
        if name.startswith(begin):
            return label + _WHEN.get(name.removeprefix(begin), "")
    return name.replace("_", " ")


def _span(name: str, values: set[Any]) -> str:
    """All words, or the smallest and the largest number, with its unit where the name ends in bytes."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) < len(values):
        return ", ".join(sorted(map(str, values)))
    text = units.size if "_bytes" in name else lambda value: f"{value:.4g}"
    ends = [text(value) for value in sorted({min(numbers), max(numbers)})]
    return " to ".join(dict.fromkeys(ends))
