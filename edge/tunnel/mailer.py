"""Letters from the outbox to the cloud: several under way, each until the cloud says that its effect is on disk.

A large letter is not pushed but offered, and collected by the cloud in pieces: nothing else waits long behind it.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from edge.errors import RefusedError
from edge.tunnel.answers import Incoming, concerns, unanswered
from edge.tunnel.outbox import Letter, Outbox
from edge.tunnel.saying import Saying
from protocol.chunks import blob_ref, pieces_of
from protocol.envelope import encode
from protocol.messages import Accepted, Busy, Collect, Offer, Refusal
from protocol.request import Mailing
from protocol.topics import CHUNK_BYTES

if TYPE_CHECKING:
    from edge.tunnel.session import Session

OFFERED_BYTES = 64 << 10  # a larger letter is offered


class Mailer:
    """Delivers what is in the outbox now.

    Args:
        session: The conversation.
        outbox: Where the letters are, and stay until they are settled.
        timeout_s: How long the cloud may take to confirm one.
    """

    def __init__(self, session: Session, outbox: Outbox, timeout_s: float) -> None:
        self._session = session
        self._outbox = outbox
        self._timeout_s = timeout_s
        self._letters = {letter.message_id: letter for letter in outbox.pending()}
        sizes = [(letter.message_id, len(letter.payload)) for letter in self._letters.values()]
        self._mailing = Mailing(sizes, time.monotonic(), timeout_s)
        self._saying: dict[str, Saying] = {}

    def run(self) -> None:
        """Return once the cloud has it all; errors are as `edge.tunnel.session.Session.deliver_outbox` says."""
        mailing = self._mailing
        while not mailing.finished:
            if mailing.expired(time.monotonic()):
                busy = any(request.busy for request in mailing.under_way.values())
                raise unanswered("what was reported", self._timeout_s, busy=busy)
            incoming = self._session.hear(self._say())
            if incoming is not None and isinstance(incoming.message, Collect):
                self._hand_pieces(incoming.message)
                self._session.settle(incoming)
            elif incoming is not None:
                self._settle(incoming)

    def _say(self) -> float:
        """Say what is due; how long there is nothing to do but to listen."""
        mailing, saying = self._mailing, self._saying
        mailing.admit(time.monotonic())
        for name, request in mailing.under_way.items():
            if name not in saying:
                pushed = self._pushed(self._letters[name])
                saying[name] = Saying(self._session.link, request, *pushed, self._timeout_s)
            saying[name].step()
        return min(saying[name].pause_s() for name in mailing.under_way)

    def _pushed(self, letter: Letter) -> tuple[str, bytes]:
        """What is said of a letter: itself, or that it is there to be collected."""
        if len(letter.payload) <= OFFERED_BYTES:
            return letter.kind, letter.payload
        chunk_bytes = self._session.window.chunk_bytes(min(self._session.link.max_chunk_bytes, CHUNK_BYTES))
        return Offer.kind, encode(Offer(letter.kind, blob_ref(letter.payload), chunk_bytes), letter.message_id)

    def _hand_pieces(self, collect: Collect) -> None:
        for letter in self._letters.values():
            if len(letter.payload) > OFFERED_BYTES and blob_ref(letter.payload).sha256 == collect.blob:
                for piece in pieces_of(letter.payload, collect):
                    self._session.say(piece)
                self._mailing.progress(letter.message_id, time.monotonic())

    def _settle(self, incoming: Incoming) -> None:
        message, mailing = incoming.message, self._mailing
        if isinstance(message, Busy):
            mailing.put_off(message.message_id, time.monotonic(), message.retry_after_s, random.random())  # noqa: S311
        if not isinstance(message, (Accepted, Refusal)) or not concerns(message, mailing.unsettled):
            self._session.settle(incoming)
            return
        refusal = RefusedError(message.code, message.detail) if isinstance(message, Refusal) else None
        if refusal is not None and refusal.lasting:
            self._outbox.remove(message.message_id)
        self._session.settle(incoming)
        if refusal is not None:
            raise refusal
        mailing.settle(message.message_id, time.monotonic())
