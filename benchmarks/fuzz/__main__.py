"""Mutated messages against each decoder; exit code 1 on a crash, on growth of memory, or on a message that takes long.

python -m benchmarks.fuzz --messages 100000
python -m benchmarks.fuzz --messages 100000 --only "compact batch" --seed 7
python -m benchmarks.fuzz --messages 100000 --atheris     # coverage-guided, where atheris is installed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from benchmarks.fuzz.examples import examples
from benchmarks.fuzz.run import Outcome, run_by_name
from benchmarks.fuzz.targets import targets

MAX_GROWTH_BYTES = 8 << 20
MAX_MESSAGE_S = 2.0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="for each decoder")
    parser.add_argument("--only", help="one decoder by name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="decoders at a time")
    parser.add_argument("--atheris", action="store_true", help="let libFuzzer choose by coverage")
    chosen = parser.parse_args()
    names = [one.name for one in targets(examples()) if chosen.only in (None, one.name)]
    if not names:
        parser.error(f"no decoder is named {chosen.only!r}")
    if chosen.atheris:
        return max(_guided(name, chosen.messages, chosen.seed) for name in names)
    if chosen.only is not None:
        return 0 if _told(run_by_name(chosen.only, chosen.messages, chosen.seed)) else 1
    titles = f"{'messages':>9} {'refused':>9} {'faults':>7} {'growth KiB':>11} {'slowest ms':>11}"
    sys.stdout.write(f"{'decoder':22} {titles}\n")
    options = ["--messages", str(chosen.messages), "--seed", str(chosen.seed)]
    commands = [[sys.executable, "-m", "benchmarks.fuzz", "--only", name, *options] for name in names]
    # A process for each decoder, so that each one's memory is its own.
    with ThreadPoolExecutor(chosen.processes) as pool:
        return max(pool.map(_apart, commands))


def _apart(command: list[str]) -> int:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    return done.returncode


def _told(outcome: Outcome) -> bool:
    good = not outcome.faults and outcome.growth_bytes < MAX_GROWTH_BYTES and outcome.slowest_s < MAX_MESSAGE_S
    sys.stdout.write(
        f"{outcome.name:22} {outcome.messages:9} {outcome.refused:9} {len(outcome.faults):7} "
        f"{outcome.growth_bytes / 1024:11.0f} {1e3 * outcome.slowest_s:11.1f}{'' if good else '  FAULT'}\n"
    )
    for fault in outcome.faults:
        sys.stdout.write(f"    {fault}\n")
    sys.stdout.flush()
    return good


def _guided(name: str, messages: int, seed: int) -> int:
    """LibFuzzer ends its process, so each decoder has one of its own."""
    command = [sys.executable, "-m", "benchmarks.fuzz.guided", name, str(messages), str(seed)]
    done = subprocess.run(command, check=False)
    sys.stdout.write(f"{name:22} {'no fault' if done.returncode == 0 else 'FAULT'} in {messages} guided messages\n")
    return min(done.returncode, 1)


if __name__ == "__main__":
    sys.exit(main())
