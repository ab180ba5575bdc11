"""A question until it is answered, and letters until they are accepted: when to say them, and when to say them again.

No clocks, sockets or chance: the caller says when it is, what became of what it said, and how much to jitter. What is
said again has the same id, so its effect happens once.

A broker acknowledges what it has taken. That does not mean that anybody heard it: it may have had nobody to hand it to
(`unheard`), or be killed before it did (then there is silence).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

FIRST_SILENCE_S, LAST_SILENCE_S = 5.0, 60.0
FIRST_UNHEARD_S = 0.25
WINDOW_BYTES = 128 << 10  # of letters under way; others wait, so that a long queue does not fill a slow line


class Request:
    """One message that must be answered.

    Args:
        now_s: A monotonic clock's reading.
        timeout_s: After so long it has failed.

    Attributes:
        deadline_s: When it has failed.
        answered: Whether it was.
        busy: Whether the cloud ever put it off.
    """

    def __init__(self, now_s: float, timeout_s: float) -> None:
        self.deadline_s = now_s + timeout_s
        self.answered = False
        self.busy = False
        self._due_s: float | None = now_s
        self._silence_s = FIRST_SILENCE_S
        self._unheard_s = FIRST_UNHEARD_S

    def due(self, now_s: float) -> bool:
        """Whether to say it now, for the first time or again."""
        return not self.answered and self._due_s is not None and self._due_s <= now_s

    def expired(self, now_s: float) -> bool:
        """Whether it was not answered in time."""
        return not self.answered and now_s >= self.deadline_s

    @property
    def next_s(self) -> float:
        """When to look at it again if nothing happens before."""
        return self.deadline_s if self._due_s is None else min(self._due_s, self.deadline_s)

    def said(self) -> None:
        """It was handed to the link, which brings it to the broker however often the connection is lost."""
        self._due_s = None

    def taken(self, now_s: float, jitter: float) -> None:
        """The broker has it. If it is lost there, there will be silence.

        Args:
            now_s: A monotonic clock's reading.
            jitter: A random number in [0, 1), so that a fleet does not repeat itself in step.
        """
        if self._due_s is None:  # else it was said to be lost, or put off, before this was heard of
            self._due_s = now_s + self._silence_s * (0.75 + 0.5 * jitter)
            self._silence_s = min(2 * self._silence_s, LAST_SILENCE_S)

    def unheard(self, now_s: float, jitter: float) -> None:
        """The broker had nobody to hand it to: nobody will answer, so it is said again soon."""
        self._due_s = now_s + self._unheard_s * (0.75 + 0.5 * jitter)
        self._unheard_s = min(2 * self._unheard_s, FIRST_SILENCE_S)

    def progress(self, now_s: float) -> None:
        """It is being worked on: the silence begins anew."""
        self._silence_s = FIRST_SILENCE_S
        self._due_s = now_s + self._silence_s

    def put_off(self, now_s: float, retry_after_s: float, jitter: float) -> None:
        """The cloud has too much to do: it is said again after so long and up to half as long again.

        Args:
            now_s: A monotonic clock's reading.
            retry_after_s: What the cloud asks for.
            jitter: A random number in [0, 1), so that those put off together do not come back together.
        """
        self.busy = True
        self._silence_s = FIRST_SILENCE_S
        self._due_s = now_s + retry_after_s * (1 + 0.5 * jitter)

    def settle(self) -> None:
        """It is answered; whatever comes after that changes nothing."""
        self.answered = True


class Mailing:
    """Letters on their way, oldest first: each stays until it was accepted, or refused for good.

    Args:
        letters: Id and bytes of each.
        now_s: A monotonic clock's reading.
        timeout_s: After so long without any settled it has failed.
    """

    def __init__(self, letters: Iterable[tuple[str, int]], now_s: float, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting = dict(letters)
        self._under_way: dict[str, tuple[Request, int]] = {}
        self._deadline_s = now_s + timeout_s

    @property
    def finished(self) -> bool:
        """Whether every letter is settled."""
        return not self._waiting and not self._under_way

    @property
    def unsettled(self) -> set[str]:
        """Ids of the letters that are not settled."""
        return {*self._waiting, *self._under_way}

    @property
    def under_way(self) -> dict[str, Request]:
        """The letters that may be said, in order, each as a request."""
        return {name: request for name, (request, _) in self._under_way.items()}

    def admit(self, now_s: float) -> None:
        """Let as many letters be under way as fit."""
        size_bytes = sum(size for _, size in self._under_way.values())
        for name, size in list(self._waiting.items()):
            if self._under_way and size_bytes + size > WINDOW_BYTES:
                break
            del self._waiting[name]
            self._under_way[name] = Request(now_s, math.inf), size
            size_bytes += size

    def expired(self, now_s: float) -> bool:
        """Whether nothing was settled for too long."""
        return not self.finished and now_s >= self._deadline_s

    def progress(self, name: str, now_s: float) -> None:
        """A letter is being worked on: nothing is late."""
        if name in self._under_way:
            self._under_way[name][0].progress(now_s)
            self._deadline_s = now_s + self._timeout_s

    def put_off(self, name: str, now_s: float, retry_after_s: float, jitter: float) -> None:
        """The cloud has too much to do for a letter now: `Request.put_off`, and it is no sign of silence."""
        if name in self._under_way:
            self._under_way[name][0].put_off(now_s, retry_after_s, jitter)
            self._deadline_s = max(self._deadline_s, now_s + 1.5 * retry_after_s + self._timeout_s)

    def settle(self, name: str, now_s: float) -> bool:
        """A letter was accepted, or refused for good.

        Returns:
            Whether this was news.
        """
        known = name in self.unsettled
        self._waiting.pop(name, None)
        self._under_way.pop(name, None)
        if known:
            self._deadline_s = now_s + self._timeout_s
        return known
