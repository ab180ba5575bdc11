"""Runs one decoder over many messages and measures that it neither fails, nor hoards memory, nor dawdles."""

from __future__ import annotations

import gc
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz.examples import examples
from benchmarks.fuzz.mutate import Mutator
from benchmarks.fuzz.targets import Target, targets

_WARM_UP = 0.2  # of the messages: caches and pools of the allocator fill at first
_MAX_KEPT_FAULTS = 5
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        name: The decoder.
        messages: How many it was given.
        refused: How many it refused, as it should; the rest were still good.
        faults: Messages (hexadecimal) and what they made it raise that it must not.
        growth_bytes: By how much this process grew after the first fifth.
        slowest_s: The most processor time that one message took; other programs do not count.
    """

    name: str
    messages: int
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    growth_bytes: int = 0
    slowest_s: float = 0.0


def run(target: Target, messages: int, seed: int) -> Outcome:
    """Give ``target`` that many messages. Warnings count as faults, as they do in the tests."""
    outcome, mutator = Outcome(target.name, messages), Mutator(target.seeds, seed)
    before = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(messages):
            if number == int(_WARM_UP * messages):
                before = _resident_bytes()
            _give(target, target.finish(mutator.next()), outcome)
    outcome.growth_bytes = _resident_bytes() - before
    return outcome


def run_by_name(name: str, messages: int, seed: int) -> Outcome:
    """`run` for the target of that name."""
    return run(next(one for one in targets(examples()) if one.name == name), messages, seed)


def _give(target: Target, payload: bytes, outcome: Outcome) -> None:
    begun = time.process_time()
    try:
        target.read(payload)
    except target.refusals:
        outcome.refused += 1
    except Exception as fault:
        if len(outcome.faults) < _MAX_KEPT_FAULTS:
            outcome.faults.append(f"{type(fault).__name__}: {str(fault)[:200]} <- {payload[:400].hex()}")
    outcome.slowest_s = max(outcome.slowest_s, time.process_time() - begun)


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
