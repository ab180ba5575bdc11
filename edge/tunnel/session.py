"""What is said over the link: requests and their answers, letters from the outbox, blobs, and tasks.

Used from one thread. A message of the cloud is acknowledged once what it says is on disk, or once it is clear that it
says nothing of use: one of another schema version is refused, counted and left behind, and the round goes on.
"""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from edge.errors import LinkTimeoutError, RefusedError
from edge.storage.store import Store
from edge.tunnel.answers import Incoming, concerns, unanswered
from edge.tunnel.link import Link
from edge.tunnel.mailer import Mailer
from edge.tunnel.saying import Saying
from protocol.envelope import decode, encode
from protocol.errors import ProtocolError
from protocol.flow import Window
from protocol.messages import (
    Accepted,
    Busy,
    Hello,
    Log,
    LogRequest,
    Message,
    Refusal,
    Release,
    Task,
)  # fmt: skip
from protocol.request import Request

_IDLE_S = 3600.0
_LINGER_S = 2.0  # after an old task, for a newer one
MAX_LOG_BYTES = 512 << 10

Emit = Callable[[dict[str, Any]], None]


class Session:
    """The device's side of the conversation.

    Attributes:
        task: The newest task heard of; None before the first.
        release: The newest offer of a release heard of; None before the first.
        refused: Messages that could not be read, such as those of another schema version.
        window: What transfers learnt of the line.

    Args:
        link: The connection; opened on first use.
        store: Its outbox is emptied as the cloud accepts what is in it.
        emit: Told of refused messages.
        timeout_s: How long the cloud may take to answer.
    """

    def __init__(self, link: Link, store: Store, emit: Emit, timeout_s: float) -> None:
        self.link = link
        self.task: Task | None = None
        self.release: Release | None = None
        self.refused = 0
        self._store = store
        self._emit = emit
        self.window = Window()
        self._timeout_s = timeout_s
        self._greeted = 0
        self._greeting: Saying | None = None
        self._waiting: WeakValueDictionary[str, Request] = WeakValueDictionary()  # by the id that is to be answered

    def say(self, message: Message) -> str:
        """Send a message, and return the id by which the cloud answers it.

        Raises:
            OversizeError: If it is too large; nothing is sent.
            LinkError: If there is no connection.
        """
        message_id = uuid.uuid4().hex
        self.link.send(message.kind, encode(message, message_id), self._timeout_s)
        return message_id

    def saying(self, message: Message) -> tuple[Saying, str]:
        """A message to be said, and again where nobody heard it, as the caller steps it; and the id of its answers."""
        message_id = uuid.uuid4().hex
        request, payload = Request(time.monotonic(), math.inf), encode(message, message_id)
        self._waiting[message_id] = request
        return Saying(self.link, request, message.kind, payload, self._timeout_s), message_id

    def read_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Ask the broker for chunks of a shared blob.

        Raises:
            LinkError: If there is no connection.
        """
        self.link.read_shared(sha256, chunks, self._timeout_s)

    def hear(self, timeout_s: float, connection: int | None = None) -> Incoming | None:
        """The next message, which the caller `settle`s; None if none that can be read comes in time.

        With a ``connection``'s number there is no waiting once another has taken its place.

        What a task or an acceptance says is noted already.
        """
        delivery = self.link.receive(timeout_s, connection)
        if delivery is None:
            return None
        try:
            message = decode("down", delivery.kind, delivery.payload).message
        except ProtocolError as error:
            self.refused += 1
            self._emit({"event": "message-refused", "kind": delivery.kind, "reason": str(error)})
            self.link.acknowledge(delivery)
            return None
        if isinstance(message, Accepted):
            self._store.outbox.remove(message.message_id)
        if isinstance(message, LogRequest):
            self._keep_log(message)
        if isinstance(message, Busy):
            self._put_off(message)
        if isinstance(message, Task) and (self.task is None or message.version >= self.task.version):
            self.task = message
        if isinstance(message, Release) and (self.release is None or message.offer >= self.release.offer):
            self.release = message
        return Incoming(message, delivery)

    def _put_off(self, busy: Busy) -> None:
        self._emit({"event": "put-off", "retry_after_s": busy.retry_after_s})
        if (request := self._waiting.get(busy.message_id)) is not None:
            request.put_off(time.monotonic(), busy.retry_after_s, random.random())  # noqa: S311 - jitter, not a secret

    def _keep_log(self, request: LogRequest) -> None:
        """Queue what the cloud asks for; it travels with the next letters."""
        self._store.outbox.add(Log(request.request_id, self._store.log.packed(min(request.max_bytes, MAX_LOG_BYTES))))

    def settle(self, incoming: Incoming) -> None:
        """Acknowledge a message whose content is on disk or of no use."""
        self.link.acknowledge(incoming.delivery)

    @contextmanager
    def ask(self, question: Message, is_answer: Callable[[Message], bool]) -> Iterator[Message]:
        """Send a question and give its answer to the body; it is acknowledged if the body ends well.

        Raises:
            RefusedError: If the cloud refuses the question, or puts it off till it is too late.
            LinkTimeoutError: If no answer comes in time.
            LinkError: If there is no connection.
        """
        message_id = uuid.uuid4().hex
        payload = encode(question, message_id)
        request = Request(time.monotonic(), self._timeout_s)
        self._waiting[message_id] = request
        incoming = self._await(request, question.kind, payload, lambda m: concerns(m, {message_id}) or is_answer(m))
        if isinstance(incoming.message, Refusal):
            self.settle(incoming)
            raise RefusedError(incoming.message.code, incoming.message.detail)
        yield incoming.message
        self.settle(incoming)

    def _await(self, request: Request, kind: str, payload: bytes, wanted: Callable[[Message], bool]) -> Incoming:
        """Say a question, and again where nobody heard it, until its answer comes; other messages are settled."""
        saying = Saying(self.link, request, kind, payload, self._timeout_s)
        while not request.expired(time.monotonic()):
            saying.step()
            incoming = self.hear(saying.pause_s())
            if incoming is None:
                continue
            if wanted(incoming.message):
                request.settle()
                return incoming
            self.settle(incoming)
        raise unanswered(kind, self._timeout_s, busy=request.busy)

    def connect(self) -> None:
        """See that there is a connection.

        Raises:
            LinkError: If there is none in time.
        """
        self.link.open(self._timeout_s)

    def greet(self, hello: Hello) -> None:
        """Connect, and tell what this device is and holds, once a connection; the cloud may answer with a task."""
        self.connect()
        if self._greeted != self.link.connections:
            self._greeted = self.link.connections
            self._greeting, _ = self.saying(hello)
            self._greeting.step()

    def await_task(self, newer_than: int | None) -> Task | None:
        """The cloud's task; None if the newest one is not newer than the one done last.

        Raises:
            LinkTimeoutError: If the cloud left no task in time.
            RefusedError: If it refuses this device's greeting.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while not self._has_task(newer_than):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 and self.task is not None:
                return None
            if left_s <= 0:
                raise LinkTimeoutError(f"no task within {self._timeout_s:g} s; is the cloud's service running?")
            if (incoming := self.hear(min(left_s, self.greet_again_s()))) is not None:
                self.settle(incoming)
                if isinstance(incoming.message, Refusal):
                    raise RefusedError(incoming.message.code, incoming.message.detail)
                if isinstance(incoming.message, Task):  # an old one may come again before a newer one
                    deadline_s = min(deadline_s, time.monotonic() + _LINGER_S)
        return self.task

    def greet_again_s(self) -> float:
        """Greet again where nobody heard it and no task came; how long to listen before the next call.

        Raises:
            LinkError: If there is no connection.
        """
        if self._greeting is None or self.task is not None:
            return _IDLE_S
        self._greeting.step()
        return min(self._greeting.pause_s(), _IDLE_S)

    def _has_task(self, newer_than: int | None) -> bool:
        return self.task is not None and (newer_than is None or self.task.version > newer_than)

    def deliver_outbox(self) -> None:
        """Send everything that waits, and return once the cloud has it all; see `edge.tunnel.mailer`.

        Raises:
            RefusedError: If the cloud refuses a letter; it is dropped if it would always be refused.
            LinkTimeoutError: If the cloud does not confirm in time; what is not confirmed stays.
            LinkError: If there is no connection.
        """
        Mailer(self, self._store.outbox, self._timeout_s).run()
