"""A run directory as one self-contained HTML page that a person who never saw it can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from profiling import figures, page, units
from profiling.record import RoundRecord
from profiling.report_energy import energy_section, fairness_section
from profiling.report_marks import marks
from profiling.report_tables import counter_table, device_table, largest_peak, phase_table
from profiling.report_traffic import purpose_table
from profiling.run import Run, load_run
from profiling.summary import add, device_row, mapping, number, plural
from profiling.timeline import timelines

__all__ = ["load_run", "write_report"]

REPORT_FILE = "report.html"
_TALK = ("sync", "query", "fetch", "report")
_WORDS = (
    ("AUC", "chance that a liked item is ranked above one that was not; 0.5 is guessing, 1 is perfect"),
    ("local, matched, kept", "the user's own samples; those the cloud sent; those the device's classifier kept"),
    ("gate", "compares the tuned and the cloud's model on the user's latest samples, held out for it"),
    ("sync, query, fetch, report", "phases that talk: get task and models, ask, receive samples, tell how it went"),
    ("classify, tune, gate", "phases that compute: which samples look local, training, is the result worth serving"),
    ("kind of an energy", "measured; measured and corrected by a formula; or modelled from utilisation alone"),
    (
        "scope of an energy",
        "what is in it: all that enters the board (board-input), one module, the processor package",
    ),
    ("gross, net", "all energy of a phase; what is left of it above the same board at rest"),
    ("\u00b1 at 95%", "the true value lies within this range in 95 of 100 cases"),
    ("processor time", "seconds of all threads of the device's process, in user mode and in the kernel"),
    ("peak memory", "largest resident memory of the device's process"),
)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into the run directory.

    Returns:
        The page's path.

    Raises:
        RunError: If the run directory cannot be read; see `load_run`.
    """
    path = run_dir / REPORT_FILE
    path.write_text(render(load_run(run_dir)), encoding="utf-8")
    return path


def render(run: Run) -> str:
    """The report as an HTML document."""
    devices = [device_row(row) for row in run.summary["devices"]]
    devices.sort(key=lambda row: -(row["gain"] if row["gain"] is not None else -2.0))
    phases = figures.by_phase(run.rounds)
    parts = [
        _headline(run, devices),
        _quality(devices),
        _time(run.rounds, phases),
        _traffic(phases),
        purpose_table(run.rounds),
        _memory(phases),
        energy_section(run.rounds, phases),
        _over_time(run),
        device_table(devices, run.summary),
        phase_table(phases),
        counter_table(phases),
        fairness_section(run.rounds),
        _unmeasured(run),
        _setup(run),
        page.section("What the words mean", page.definitions(_WORDS)),
    ]
    created = _when(run.summary.get("created_unix_s"))
    return page.page("CoDA Edge run report", "".join(parts), f"Run of {created}, from {run.path.name}. CoDA Edge.")


def _headline(run: Run, devices: Sequence[Mapping[str, Any]]) -> str:
    data, board = mapping(run.summary, "data"), mapping(run.summary, "board")
    name = str(data.get("name", "unnamed data"))
    intro = (
        f"{plural(len(devices), 'device')} each ran one round on {name}: ask the cloud for similar samples, keep "
        "those that look like the user's own, tune the recommender on both, and serve the result unless it tested "
        f"clearly worse. The devices ran on {board.get('model', 'an unknown board')}."
    )
    title = f"<h1>CoDA Edge: one round on {escape(name)}</h1>"
    when = page.paragraph(_when(run.summary.get("created_unix_s")), "muted small")
    return title + when + marks([run]) + page.paragraph(intro) + page.cards(_cards(devices))


def _cards(devices: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    activated = sum(row["decision"] == "activated" for row in devices)
    gain = figures.mean([row["gain"] for row in devices])
    sent = [add(row["mqtt_up_bytes"], row["mqtt_down_bytes"]) for row in devices]
    peaks = [row["peak_rss_bytes"] for row in devices if row["peak_rss_bytes"] is not None]
    cpu = [add(row["cpu_user_s"], row["cpu_system_s"]) for row in devices]
    energy = figures.mean([row["energy_mj"] for row in devices])
    kept, matched = (figures.mean([row[f"samples_{name}"] for row in devices]) for name in ("kept", "matched"))
    quality = [] if gain is None else [(units.change(gain, 4), "test AUC against the cloud model, mean")]
    return [
        *quality,
        (f"{activated} of {len(devices)}", "devices serve a personal model"),
        (units.seconds(figures.mean([row["elapsed_s"] for row in devices])), "wall time a round, mean"),
        (units.seconds(figures.mean(cpu)), "processor time a round, mean"),
        (units.size(max(peaks, default=None)), "largest peak memory"),
        (units.size(figures.mean(sent)), "MQTT bytes a round, mean"),
        (units.energy(energy) if energy is not None else "not measured", "energy a round, mean"),
        (f"{units.count(kept)} of {units.count(matched)}", "matched samples kept a round, mean"),
    ]


def _quality(devices: Sequence[Mapping[str, Any]]) -> str:
    scored = [row for row in devices if row["gain"] is not None]
    if not scored:
        return page.section("No device has a test AUC", page.paragraph("No test samples were held out."))
    means = {arm: figures.mean([row["auc"][arm] for row in devices]) for arm in ("cloud", "local", "coda")}
    up, down = sum(row["gain"] > 0 for row in scored), sum(row["gain"] < 0 for row in scored)
    gain = figures.mean([row["gain"] for row in scored]) or 0.0
    verb = "raises" if gain > 0 else "lowers" if gain < 0 else "does not change"
    amount = f" by {abs(gain):.4f}" if gain else ""
    title = f"CoDA {verb} mean test AUC{amount}: {up} of {plural(len(scored), 'device')} gain, {down} lose"
    alone = None if means["local"] is None or means["cloud"] is None else means["local"] - means["cloud"]
    note = (
        f"Tuning on local samples alone changes the mean by {units.change(alone, 4)}. "
        "Each row is a device; the line leads from the cloud's model to the one CoDA trained there. Sorted by gain. "
        "So few devices show how a run went, not whether the method pays: for that, see an evaluation over many users."
    )
    shown = len(devices) - figures.MOST_ROWS
    more = page.paragraph(f"{shown} further devices are in the table.", "muted small") if shown > 0 else ""
    return page.section(title, page.paragraph(note, "muted"), figures.auc_figure(devices, means), more)


def _time(rounds: Sequence[RoundRecord], phases: figures.PhaseValues) -> str:
    if not rounds:
        return page.section("No round was recorded", page.paragraph("rounds.jsonl is empty."))
    wall = {name: sum(p.elapsed_s for p in records) for name, records in phases.items()}
    whole = sum(wall.values()) or 1.0
    longest = max(wall, key=lambda name: wall[name])
    talk = sum(seconds for name, seconds in wall.items() if name in _TALK) / whole
    title = f"A round takes {units.seconds(whole / len(rounds))}; {wall[longest] / whole:.0%} of it goes to {longest}"
    note = f"Blue phases talk to the cloud ({talk:.0%} of the wall time), orange ones compute ({1 - talk:.0%})."
    return page.section(title, page.paragraph(note, "muted"), figures.time_figure(rounds))


def _traffic(phases: figures.PhaseValues) -> str:
    both = {name: [add(p.mqtt_up_bytes, p.mqtt_down_bytes) for p in rows] for name, rows in phases.items()}
    known = {name: value for name, values in both.items() if (value := figures.mean(values))}
    if not known:
        return ""
    whole, most = sum(known.values()), max(known, key=lambda name: known[name])
    title = f"A round moves {units.size(whole)} over MQTT, {known[most] / whole:.0%} of it in {most}"
    note = "MQTT packets before TLS, from the connection's own counters. Phases without a bar moved nothing."
    return page.section(title, page.paragraph(note, "muted"), figures.traffic_figure(phases))


def _memory(phases: figures.PhaseValues) -> str:
    peaks = {name: peak for name, rows in phases.items() if (peak := largest_peak(rows))}
    if not peaks:
        return ""
    highest = max(peaks, key=lambda name: peaks[name])
    title = f"Memory peaks at {units.size(peaks[highest])}, in {highest}"
    note = "Largest resident memory of the device's process within each phase; the mark is reset when a phase begins."
    return page.section(title, page.paragraph(note, "muted"), figures.memory_figure(phases))


def _over_time(run: Run) -> str:
    if not run.recordings:
        return ""
    recording = run.recordings[0]
    charts = [page.paragraph(title, "small") + figure for title, figure in timelines(recording)]
    note = f"Sampled on {recording.device}; the strip above each chart shows the phases."
    return page.section("One round over time", page.paragraph(note, "muted"), *charts) if charts else ""


def _unmeasured(run: Run) -> str:
    reasons = {str(name): str(why) for name, why in mapping(run.summary, "unmeasured").items()}
    for record in run.rounds:
        for name, why in record.unmeasured.items():
            reasons.setdefault(name, why)
    title = "What could not be measured, and why"
    if not reasons:
        return page.section(title, page.paragraph("Every quantity in this report was measured on every device."))
    rows = [(name.replace("_", " "), why) for name, why in sorted(reasons.items())]
    note = page.paragraph("A dash in a table stands for one of these. It never means zero.", "muted")
    return page.section(title, note, page.definitions(rows))


def _setup(run: Run) -> str:
    summary = run.summary
    data, broker, runtime = (mapping(summary, name) for name in ("data", "broker", "runtime"))
    rows = [
        ("data", _join(data.get("name"), data.get("labels") and f"{data['labels']} labels", data.get("source"))),
        ("broker", _join(broker.get("name"), broker.get("version"), "TLS" if broker.get("tls") else "no TLS")),
        ("TFLite runtime", _join(runtime.get("name"), runtime.get("version"))),
        ("board", _join(*(mapping(summary, "board").get(key) for key in ("model", "kind", "machine", "kernel")))),
    ]
    for name, model in mapping(summary, "models").items():
        if isinstance(model, Mapping):
            digest = str(model.get("sha256", ""))[:12]
            size = units.size(number(model, "size_bytes"))
            rows.append((f"{name} file", _join(size, digest, *_proofs(mapping(model, "parity")))))
    h0 = number(mapping(summary, "h0"), "mean_user_auc")
    if h0 is not None:
        rows.append(("cloud model (h0)", f"mean user AUC {h0:.4f} over all new devices"))
    software = {f"{k} {v}" for record in run.rounds for k, v in record.software.items()}
    rows.append(("software", ", ".join(sorted(software)) or units.MISSING))
    return page.section("What ran", page.definitions(rows))


def _proofs(parity: Mapping[str, Any]) -> list[str]:
    """In which runtimes a converted file was found to train as TensorFlow does, and how closely."""
    found = []
    for proof in parity.get("runtimes", ()):
        error, name = number(proof, "loss_error"), f"{proof.get('runtime')} {proof.get('version')}"
        if proof.get("passed") and error is not None:
            found.append(f"trains as TensorFlow does in {name} (losses within {error:.0e})")
        else:
            found.append(f"NOT proven in {name}")
    return found


def _when(unix_s: object) -> str:
    if not isinstance(unix_s, (int, float)):
        return "unknown time"
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _join(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part) or units.MISSING
