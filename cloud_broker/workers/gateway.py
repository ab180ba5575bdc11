"""A cloud worker at the broker: takes what devices say, has it acted on, sends what is answered.

Any number of workers share the fleet's messages (`topics.cloud_filter`); each needs an identity of its own. A message
is acknowledged only when its effect is on disk and its answers are handed to the client, so one that a killed worker
had in its hands is delivered again. What would have to wait too long is put off at once: see `admission`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from types import TracebackType

from cloud_broker.membership.identity import Identity
from cloud_broker.workers.admission import MAX_WAITING, PATIENCE_S
from cloud_broker.workers.answers import Outgoing, address_of, claimed_id
from cloud_broker.workers.lanes import Lanes
from cloud_broker.workers.sharing import SHARE_LIFETIME_S
from cloud_broker.workers.worker_link import Delivery, WorkerLink
from profiling.traffic import Traffic
from protocol import envelope, topics
from protocol.chunks import chunk_count
from protocol.messages import BlobRef, Busy, Chunk, Match
from protocol.purposes import SAMPLES, purpose_of

_DRAIN_TIMEOUT_S = 5.0
_QUIET_S = 0.5  # with nothing new for so long, the broker has handed over what it had
_MAX_RECEIVE_MAXIMUM = 65_535
_WAKE_S = 0.2

logger = logging.getLogger(__name__)

Respond = Callable[[str, bytes], Iterable[Outgoing]]


class Observer:
    """Is told what a gateway does, from several threads; this one lets it pass."""

    def served(self, kind: str, waited_s: float, service_s: float) -> None:
        """A message of a kind was acted on, after waiting."""

    def put_off(self, kind: str, retry_after_s: float) -> None:
        """A message of a kind was put off."""


class Gateway:
    """One worker's connection and the threads that act on what comes; a context manager.

    Messages of one device are acted on in their order, but that others may pass a question for samples; those of
    different devices side by side.
    """

    def __init__(
        self,
        identity: Identity,
        fleet: str,
        host: str,
        port: int,
        respond: Respond,
        *,
        threads: int = 2,
        patience_s: float = PATIENCE_S,
        keep_session: bool = True,
        on_return: Callable[[], None] | None = None,
        traffic: Traffic | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Prepare a connection.

        Args:
            identity: The worker's certificate; the broker knows the worker by its name.
            fleet: The fleet served.
            host: The broker's name or address, as in its certificate.
            port: The broker's port.
            respond: Acts on a topic and payload and says what to answer; does not raise.
            threads: How many messages that may wait for a disk are acted on at a time. The network's thread acts on
                questions for samples, and with 0 on everything; nothing is read and nobody put off meanwhile.
            patience_s: What would wait longer is put off.
            keep_session: Whether the broker keeps messages for this worker after `stop`; one of several workers that
                leaves for good hands over to the others instead.
            on_return: Called after each reconnection, on a thread that may `send` but is not to wait: the broker may
                have lost what it was told.
            traffic: Counts the connection's bytes.
            observer: Told what happens.

        Raises:
            CertificateError: If the certificate cannot be used.
        """
        self._fleet = fleet
        self._respond = respond
        self._keep_session = keep_session
        self._on_return = on_return
        self._observer = observer or Observer()
        self._stopping = threading.Event()
        self._came_s = 0.0
        self._acting = threading.Lock()  # held by the network's thread while it acts on a message
        self._lanes = Lanes(threads, patience_s)
        self._threads = [
            threading.Thread(target=self._work, args=[number], name=f"gateway-{number}", daemon=True)
            for number in range(threads)
        ]
        self._link = WorkerLink(
            identity,
            fleet,
            host,
            port,
            on_message=self._on_message,
            traffic=traffic or Traffic(lambda topic: purpose_of(topic, SAMPLES)),
            # So many that the lanes fill first: what waits at the broker can be told nothing.
            receive_maximum=min(2 * (threads + 1) * MAX_WAITING, _MAX_RECEIVE_MAXIMUM),
            between=self._act_on_next,
        )

    @property
    def up(self) -> bool:
        """Whether the broker is connected and hands us messages."""
        return self._link.up

    @property
    def waiting(self) -> int:
        """Messages that wait, or are being acted on."""
        return self._lanes.waiting

    @property
    def hurried(self) -> bool:
        """Whether there is so much to do that time counts for more than bytes."""
        return self._lanes.hurried

    def start(self) -> None:
        """Connect and subscribe; afterwards a lost connection comes back by itself.

        Raises:
            ConnectionFailedError: If the broker is not there or does not let us in.
        """
        self._link.open()
        for thread in self._threads:
            thread.start()

    def send(self, outgoing: Outgoing) -> bool:
        """Hand a message to the client, which delivers it to the broker, over reconnections if need be.

        Waits while too many are on their way.

        Returns:
            Whether it was handed over; a gateway that is stopping no longer waits.

        Raises:
            OversizeError: If the message is too large.
        """
        payload, message = envelope.encode(outgoing.message, outgoing.message_id), outgoing.message
        if outgoing.device is None:
            assert isinstance(message, Chunk)
            topic = topics.shared_chunk(self._fleet, message.blob, message.index)
            return self._link.publish(topic, payload, qos=1, retain=True, expiry_s=SHARE_LIFETIME_S)
        # A chunk is asked for again, and so are samples: the broker need not keep them for a device that went away.
        qos = 0 if isinstance(message, Chunk) or (isinstance(message, Match) and message.data is not None) else 1
        topic = topics.down(self._fleet, outgoing.device, message.kind)
        return self._link.publish(topic, payload, qos=qos, retain=outgoing.retain)

    def withdraw(self, ref: BlobRef) -> None:
        """Have the broker forget a blob that the fleet shares no more."""
        for index in range(chunk_count(ref.size_bytes)):
            self._link.publish(topics.shared_chunk(self._fleet, ref.sha256, index), b"", qos=1, retain=True)

    def stop(self) -> None:
        """Take nothing new, finish what is being acted on, let the answers out, and disconnect.

        What waits comes to this worker's next life; where it keeps no session it is acted on first, and the broker
        hands new messages to the other workers meanwhile.
        """
        if not self._keep_session and self._link.up:
            self._link.leave()
            deadline_s = time.monotonic() + _DRAIN_TIMEOUT_S
            while time.monotonic() < deadline_s and (self.waiting or time.monotonic() - self._came_s < _QUIET_S):
                time.sleep(_WAKE_S / 4)
        self._stopping.set()
        self._link.give_up()
        with self._acting:
            pass
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._link.close(_DRAIN_TIMEOUT_S, forget=not self._keep_session)

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _on_message(self, delivery: Delivery) -> None:
        """On the network's thread: let it wait before a thread, or put it off."""
        self._came_s = delivery.came_s
        device, kind = _device_and_kind(delivery.topic)
        retry_after_s = self._lanes.admit(device, kind, delivery)
        if retry_after_s is not None:
            self._put_off(delivery, device, kind, retry_after_s)

    def _put_off(self, delivery: Delivery, device: str, kind: str, retry_after_s: float) -> None:
        # Not through `send`, which may wait; if it is lost, silence tells the device the same a little later.
        busy = Busy(claimed_id(delivery.payload), retry_after_s)
        self._link.say_at_once(topics.down(self._fleet, device, Busy.kind), envelope.encode(busy, uuid.uuid4().hex))
        self._link.acknowledge(delivery)
        self._observer.put_off(kind, retry_after_s)

    def _act_on_next(self) -> bool:
        """Also on the network's thread: act on what waits longest; whether more waits."""
        with self._acting:
            if self._stopping.is_set():
                return False
            self._take_next(self._lanes.own)
        return not self._lanes.empty(self._lanes.own)

    # Below: on the gateway's own threads.

    def _work(self, number: int) -> None:
        while not self._stopping.is_set():
            self._take_next(number, _WAKE_S)

    def _take_next(self, number: int, timeout_s: float = 0.0) -> None:
        if number == 0 and self._link.came_back() and self._on_return is not None:
            self._on_return()
        delivery = self._lanes.next(number, timeout_s)
        if delivery is None:
            return
        device, kind = _device_and_kind(delivery.topic)
        # One of an earlier connection is delivered again on this one.
        if not self._link.current(delivery):
            self._lanes.dropped(number, device)
            return
        begun_s = time.monotonic()
        self._act(delivery)
        done_s = time.monotonic()
        self._lanes.served(number, device, done_s - begun_s, done_s)
        self._observer.served(kind, begun_s - delivery.came_s, done_s - begun_s)

    def _act(self, delivery: Delivery) -> None:
        if all(self.send(outgoing) for outgoing in self._respond(delivery.topic, delivery.payload)):
            self._link.acknowledge(delivery)


def _device_and_kind(topic: str) -> tuple[str, str]:
    """Of what a device says; empty for anything else, which has no answer."""
    address = address_of(topic)
    return ("", "") if address is None else (address.device, address.kind)
