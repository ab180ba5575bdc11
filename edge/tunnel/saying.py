"""Saying one message over the link until it is settled, as its request machine wants it."""

from __future__ import annotations

import random
import time

from edge.tunnel.link import Link
from edge.tunnel.sent import Fate
from protocol.request import Request

_LOOK_S = 0.1  # how often to see whether the broker has taken what was said


class Saying:
    """Says one message whenever it is due, and tells its request what became of that.

    Args:
        link: The connection; opened if need be.
        request: When to say it.
        kind: The message's kind.
        payload: Its encoded envelope, the same each time.
        timeout_s: How long a connection may take.
    """

    def __init__(self, link: Link, request: Request, kind: str, payload: bytes, timeout_s: float) -> None:
        self._link = link
        self._request = request
        self._message = kind, payload, timeout_s
        self._sent: int | None = None

    def step(self) -> None:
        """See where it stands, and say it if it is due.

        Raises:
            LinkError: If there is no connection.
        """
        now_s = time.monotonic()
        if self._sent is not None and (fate := self._link.fate(self._sent)) is not Fate.ON_ITS_WAY:
            self._sent = None
            told = self._request.unheard if fate is Fate.UNHEARD else self._request.taken
            told(now_s, random.random())  # noqa: S311 - jitter, not a secret
        if self._request.due(now_s):
            self._sent = self._link.send(*self._message)
            self._request.said()

    def pause_s(self) -> float:
        """How long there is nothing to do but to listen."""
        until_s = max(0.0, self._request.next_s - time.monotonic())
        return until_s if self._sent is None else min(until_s, _LOOK_S)
