"""Print what kills cost: nothing, or this ends with an error."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.kills.fleet import Fleet, fill_cloud
from benchmarks.kills.rounds import RECIPE, Tally, rounds_under_fire
from benchmarks.kills.transfers import Transfer, kill_at_every_chunk, publish_blob

_CASES = (("device", False), ("device", True), ("cloud", False), ("broker", False), ("broker", True))


def main() -> int:
    """Kill as asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--points", type=int, default=0, help="random kills over full rounds")
    parser.add_argument("--transfer-bytes", type=int, default=0, help="of a transfer with a kill at every chunk")
    parser.add_argument("--only", choices=("device", "cloud", "broker"), help="whom to kill in transfers")
    parser.add_argument("--lanes", type=int, default=2, help="fleets side by side")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    console = Console(width=120, highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        fill_cloud(base / "filled")
        clean = True
        if asked.transfer_bytes:
            transfers = _transfers(base, asked.transfer_bytes, asked.only, asked.lanes)
            console.print(_table(transfers))
            clean = all(one.whole and not one.asked_again for one in transfers)
        if asked.points:
            tally = _rounds(base, asked.points, asked.lanes, asked.seed)
            for name, value in asdict(tally).items():
                console.print(f"{name.replace('_', ' '):18}{value:8}")
            clean = clean and tally.clean
    return 0 if clean else 1


def _transfers(base: Path, size_bytes: int, only: str | None, lanes: int) -> list[Transfer]:
    cases = [case for case in _CASES if only in (None, case[0])]

    def one(case: tuple[str, bool]) -> Transfer:
        killed, published = case
        with _fleet(base, f"transfer-{killed}-{published}", size_bytes) as fleet:
            ref = publish_blob(fleet.cloud_dir, size_bytes)
            return kill_at_every_chunk(fleet, ref, killed, published=published)

    with ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(one, cases))


def _rounds(base: Path, points: int, lanes: int, seed: int) -> Tally:
    def lane(number: int) -> Tally:
        share = points // lanes + (number < points % lanes)
        with _fleet(base, f"lane-{number}") as fleet:
            return rounds_under_fire(fleet, share, seed + number)

    with ThreadPoolExecutor(lanes) as pool:
        return sum(pool.map(lane, range(lanes)), Tally())


def _fleet(base: Path, name: str, size_bytes: int = 0) -> Fleet:
    shutil.copytree(base / "filled", base / name / "cloud")
    if size_bytes:
        publish_blob(base / name / "cloud", size_bytes)
    return Fleet(base / name, RECIPE)


def _table(transfers: list[Transfer]) -> Table:
    table = Table("killed", "kills", "chunks", "asked for", "asked again though here", "whole")
    for one in transfers:
        table.add_row(*map(str, (one.killed, one.kills, one.chunks, one.asked, one.asked_again, one.whole)))
    return table


if __name__ == "__main__":
    sys.exit(main())
