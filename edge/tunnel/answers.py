"""What the cloud says, how it arrived, and which question it answers."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import LinkError, LinkTimeoutError, RefusedError
from edge.tunnel.inbox import Delivery
from protocol.messages import Accepted, Message, Refusal, RefusalCode


@dataclass(frozen=True)
class Incoming:
    """A message of the cloud, and how it arrived."""

    message: Message
    delivery: Delivery


def concerns(message: Message, message_ids: set[str]) -> bool:
    """Whether it accepts or refuses one of these."""
    return isinstance(message, (Accepted, Refusal)) and message.message_id in message_ids


def unanswered(what: str, timeout_s: float, *, busy: bool) -> LinkError:
    """The error to raise where no answer came: of a cloud that is silent, or says that it has too much to do."""
    if busy:
        return RefusedError(RefusalCode.BUSY.value, f"it had too much to do for {what}; asked for {timeout_s:g} s")
    return LinkTimeoutError(f"no answer to {what} within {timeout_s:g} s; is the cloud's service running?")
