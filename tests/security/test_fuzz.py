"""Mutated messages against every decoder; `python -m benchmarks.fuzz --messages 100000` is the long form."""

from __future__ import annotations

import pytest

from benchmarks.fuzz.examples import examples
from benchmarks.fuzz.mutate import Mutator
from benchmarks.fuzz.run import run
from benchmarks.fuzz.targets import Target, targets
from protocol.messages import MESSAGES

MESSAGES_EACH = 150
TARGETS = targets(examples())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_survives_mutated_messages(target: Target) -> None:
    """It reads the good ones, refuses most of the others with its own errors, and raises nothing else."""
    for good in target.seeds:
        target.read(good)
    outcome = run(target, MESSAGES_EACH, seed=3)
    assert outcome.faults == []
    assert MESSAGES_EACH / 4 < outcome.refused < MESSAGES_EACH


def test_every_message_is_fuzzed() -> None:
    """A new kind of message is among the targets without being told."""
    assert {f"{direction}/{kind}" for direction, kind in MESSAGES} <= {target.name for target in TARGETS}


def test_a_fault_is_found() -> None:
    """A decoder that fails in another way than by its own errors is reported, with the message."""

    def careless(payload: bytes) -> object:
        return payload[3]

    outcome = run(Target("careless", [b"abcdef"], careless), 500, seed=1)
    assert outcome.faults
    assert outcome.faults[0].startswith("IndexError")


def test_the_same_seed_draws_the_same_messages() -> None:
    """So a fault can be had again."""
    first, second = (Mutator(TARGETS[0].seeds, 5) for _ in range(2))
    assert [first.next() for _ in range(50)] == [second.next() for _ in range(50)]
