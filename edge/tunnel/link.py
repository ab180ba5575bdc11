"""What a device says to the broker, and waits for: over a `Line`, MQTT 5 with a certificate on both sides.

A lost connection comes back by itself, with jittered backoff, into the same MQTT session: what was sent and not
acknowledged is sent again, what arrived and was not acknowledged arrives again. Callers therefore only wait, and every
wait ends when they are told to stop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import EdgeConfig
from edge.errors import CertificateError, StoppedError, UnreachableError
from edge.tunnel.inbox import Delivery
from edge.tunnel.line import Line
from edge.tunnel.sent import Fate
from profiling.network import NetworkBytes
from profiling.traffic import Traffic
from protocol import topics
from protocol.errors import OversizeError
from protocol.purposes import CONTROL, purpose_of

_WAIT_SLICE_S = 0.2  # how soon a wait notices that it is to stop


class Link:
    """One device's connection; a context manager that closes it.

    Args:
        config: Who we are and where the broker is.
        stop: Once set, every wait raises `StoppedError`.
        on_wait: Called again and again while a caller waits, on the caller's thread.
    """

    def __init__(
        self, config: EdgeConfig, stop: threading.Event | None = None, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._config = config
        self._stop = stop or threading.Event()
        self._on_wait = on_wait
        self._transfer = CONTROL
        self._traffic = Traffic(lambda topic: purpose_of(topic, self._transfer))
        self._line = Line(config, self._traffic)

    @property
    def connections(self) -> int:
        """Connections made so far; a change tells that what was outstanding may have to be asked for again."""
        return self._line.connections

    @property
    def max_chunk_bytes(self) -> int:
        """The largest chunk that fits what the broker takes in one message."""
        return min(self._line.max_message_bytes, topics.MAX_MESSAGE_BYTES - topics.ENVELOPE_BYTES)

    @property
    def everything_sent(self) -> bool:
        """Whether the broker has taken all that was sent."""
        return self._line.sent.everything

    def fate(self, sent: int) -> Fate:
        """What became of a message that `send` sent."""
        return self._line.sent.fate(sent)

    def network(self) -> NetworkBytes:
        """Bytes so far, over all connections."""
        return self._traffic.read()

    def network_by_purpose(self) -> dict[str, NetworkBytes]:
        """The same by purpose, one of `protocol.purposes.PURPOSES`."""
        return self._traffic.by_purpose()

    @contextlib.contextmanager
    def transferring(self, purpose: str) -> Iterator[None]:
        """What the body asks for of blobs counts for this purpose."""
        before, self._transfer = self._transfer, purpose
        try:
            yield
        finally:
            self._transfer = before

    def open(self, timeout_s: float) -> None:
        """Connect and subscribe; returns at once on a link that is open.

        Raises:
            CertificateError: If a certificate or key is unreadable, or the broker's certificate or ours is refused.
            UnreachableError: If there is no connection within ``timeout_s``.
            StoppedError: If told to stop.
        """
        self._line.begin()
        line = self._line
        ready = self._wait(lambda: line.usable or isinstance(line.fault, CertificateError), timeout_s)
        if isinstance(line.fault, CertificateError):
            raise line.fault
        if not ready:
            raise UnreachableError(f"{line.where}: {line.fault or 'no answer'}; is it up, and reachable from here?")

    def send(self, kind: str, payload: bytes, timeout_s: float) -> int:
        """Hand a message to MQTT, which brings it to the broker; opens the link if need be, and waits for it.

        Returns:
            Its number, for `fate`.

        Raises:
            OversizeError: If the broker takes no message that large.
            UnreachableError, CertificateError, StoppedError: As `open`.
        """
        line, deadline_s = self._line, time.monotonic() + timeout_s
        while True:
            self.open(deadline_s - time.monotonic())
            with line.changed:
                if len(payload) > line.max_message_bytes:
                    raise OversizeError(f"message {kind}", len(payload), line.max_message_bytes)
                if line.usable:  # it may have been lost since; paho's client must be left alone while it connects
                    return line.publish(kind, payload)

    def read_shared(self, sha256: str, chunks: Sequence[int], timeout_s: float) -> None:
        """Have the broker send these chunks of a shared blob, if it has them; once, on one connection.

        Raises:
            UnreachableError, CertificateError, StoppedError: As `open`.
        """
        topic_options = [(self._shared(sha256, index), SubscribeOptions(qos=0)) for index in chunks]
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.open(deadline_s - time.monotonic())
            with self._line.changed:
                if self._line.usable:
                    self._line.client.subscribe(topic_options)
                    return

    def leave_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Be told no more of these chunks."""
        with self._line.changed:
            if self._line.usable and chunks:
                self._line.client.unsubscribe([self._shared(sha256, index) for index in chunks])

    def _shared(self, sha256: str, index: int) -> str:
        return topics.shared_chunk(self._config.fleet, sha256, index)

    def receive(self, timeout_s: float, connection: int | None = None) -> Delivery | None:
        """The next message, or None if none arrives within ``timeout_s``.

        Args:
            timeout_s: How long to wait.
            connection: Number of the connection by which one is expected; there is no waiting once there is another.

        Raises:
            StoppedError: If told to stop.
        """
        line = self._line

        def done() -> bool:
            renewed = connection is not None and line.usable and line.connections != connection
            return renewed or len(line.inbox) > 0

        self._wait(done, timeout_s)
        with line.changed:
            delivery = line.inbox.take()
            if line.inbox.has_room_again():
                line.client.disconnect()  # what was turned away comes again on the next connection
            return delivery

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that what the message says is on disk. One of an earlier connection will come again."""
        line = self._line
        with line.changed:
            if delivery.mid and line.usable and delivery.connection == line.connections:
                line.client.ack(delivery.mid, 1)

    def close(self) -> None:
        """Say that we go offline, as far as the connection allows, and disconnect."""
        self._line.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._line.changed:
            while not done():
                if self._stop.is_set():
                    raise StoppedError("told to stop")
                self._on_wait()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._line.changed.wait(min(left_s, _WAIT_SLICE_S))
        return True
