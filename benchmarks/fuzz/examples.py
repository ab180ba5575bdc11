"""Good messages of every class, drawn from the strategies that the property tests use."""

from __future__ import annotations

import warnings

from hypothesis import HealthCheck, Phase, given, seed, settings

from protocol.messages import MESSAGES, Message
from tests.protocol.strategies import MESSAGE_STRATEGIES

_EACH = 20


def examples() -> dict[type[Message], list[Message]]:
    """Some of each class; the same at every call."""
    return {message: _draw(message) for message in MESSAGES.values()}


def _draw(message: type[Message]) -> list[Message]:
    drawn: list[Message] = []

    @seed(1)
    @settings(max_examples=_EACH, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(MESSAGE_STRATEGIES[message])
    def collect(one: Message) -> None:
        drawn.append(one)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return drawn
