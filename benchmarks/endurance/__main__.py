"""Print what a long life and many kills come to; ends with an error where anything is lost or grows."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.endurance.app import BATCH
from benchmarks.endurance.kills import Killing, Tally
from benchmarks.endurance.marathon import Marathon, run
from benchmarks.endurance.plot import save_plot
from benchmarks.kills.fleet import fill_cloud
from benchmarks.training.machine import describe, sentence


def main() -> int:
    """Run as asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance")
    parser.add_argument("--events", type=int, default=0, help="that an app tells")
    parser.add_argument("--rounds", type=int, default=100, help="over these events (%(default)s)")
    parser.add_argument("--kills", type=int, default=0, help="at random points while events are told and rounds go on")
    parser.add_argument("--lanes", type=int, default=2, help="devices side by side that are killed (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="save the figures")
    parser.add_argument("--plot", type=Path, help="save memory and disk over the events, SVG")
    asked = parser.parse_args()
    if asked.events % (BATCH * asked.rounds):
        parser.error(f"--events must be a multiple of {BATCH} times the rounds, {BATCH * asked.rounds}")
    found, clean = {"machine": describe()}, True
    sys.stdout.write(sentence(found["machine"]) + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        fill_cloud(base / "filled")
        if asked.events:
            marathon = run(_lane(base, "marathon"), asked.events, asked.rounds, asked.seed)
            found["marathon"] = marathon.to_dict()
            clean = _print_marathon(marathon, asked.rounds)
            if asked.plot:
                save_plot(asked.plot, marathon.looks)
        if asked.kills:
            tally = _kill(base, asked.kills, asked.lanes, asked.seed)
            found["kills"] = asdict(tally)
            for name, value in asdict(tally).items():
                sys.stdout.write(f"{name.replace('_', ' '):18}{value:10.6g}\n")
            clean = clean and tally.clean
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if clean else 1


def _lane(base: Path, name: str) -> Path:
    shutil.copytree(base / "filled", base / name / "cloud")
    return base / name


def _kill(base: Path, points: int, lanes: int, seed: int) -> Tally:
    def one(number: int) -> Tally:
        share = points // lanes + (number < points % lanes)
        return Killing(_lane(base, f"lane-{number}"), seed + number).run(share)

    with ThreadPoolExecutor(lanes) as pool:
        return sum(pool.map(one, range(lanes)), Tally())


def _print_marathon(found: Marathon, rounds: int) -> bool:
    audit, last, faults = found.audit, found.looks[-1], found.faults(rounds)
    lines = [
        f"{audit.events:,} events and {found.rounds} rounds, {last.days:.0f} days on the device's clock, "
        f"in {found.elapsed_s:.0f} s",
        f"samples made {audit.samples:,}: {audit.kept:,} kept, retired {audit.retired}",
        f"not accounted for: {audit.events_uncounted} events, {audit.samples_unaccounted} samples; "
        f"not what they should be: {audit.samples_astray}",
        f"rounds given up {found.abandoned}, reported twice {found.repeated}",
    ]
    for name, what in (("rss_bytes", "resident memory"), ("disk_bytes", "disk")):
        peak, grown = found.peak(name) / 1e6, found.growth(name)
        lines.append(f"{what}: peak {peak:.1f} MB; peak of the last third over that of the second {grown:.3f}")
    if found.round_peak_bytes is not None:
        lines.append(f"resident memory within rounds, by their records: peak {found.round_peak_bytes / 1e6:.1f} MB")
    sys.stdout.write("\n".join([*lines, *(f"does not hold: {fault}" for fault in faults), ""]))
    return not faults


if __name__ == "__main__":
    sys.exit(main())
