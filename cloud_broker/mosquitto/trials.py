"""What the tunnel needs of a broker, each tried by speaking to it: a verdict, and in words what was seen.

The probes use names and topics of their own (`broker_config.access_list`), so a broker in service can be tried.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_broker.errors import ConnectionFailedError
from cloud_broker.membership.certificates import RESERVED_PREFIX
from cloud_broker.membership.identity import Identity
from cloud_broker.mosquitto.configuration import CHECK_CLOUDS, CHECK_DEVICES
from cloud_broker.mosquitto.probe import Probe
from protocol.topics import MAX_MESSAGE_BYTES, ROOT

_QUEUED = 1_020  # more than the 1,000 at which several brokers drop by default
_SHARED = 20
_EXPIRY_S = 1
_SILENCE_S = 0.3  # how long to listen for what must not come; what may come is published last and ends the wait
_DAY_S = 24 * 3600

Verdict = tuple[bool, str]


@dataclass(frozen=True)
class Target:
    """The broker and the names to probe it with."""

    host: str
    port: int
    fleet: str
    clouds: tuple[Identity, Identity] | None
    devices: tuple[Identity, Identity] | None

    @property
    def tree(self) -> str:
        """Where the fleet's topics begin."""
        return f"{ROOT}/{self.fleet}"

    def topic(self, way: str) -> str:
        """A topic of the first probing device."""
        return f"{self.tree}/{CHECK_DEVICES[0]}/{way}/check"

    def cloud(self, number: int = 0) -> Probe:
        """Connect as a probing worker."""
        return Probe(self.host, self.port, CHECK_CLOUDS[number], _context(self.clouds, number))

    def device(self, number: int = 0, *, claim: int | None = None, session_s: int = 0, clean: bool = True) -> Probe:
        """Connect as a probing device, claiming its own client id or another's."""
        name = CHECK_DEVICES[number if claim is None else claim]
        context = _context(self.devices, number)
        return Probe(self.host, self.port, name, context, session_s=session_s, clean=clean)


def _shared(target: Target) -> Verdict:
    with target.cloud(0) as one, target.cloud(1) as other, target.device() as device:
        for worker in (one, other):
            if not worker.subscribe(f"$share/{RESERVED_PREFIX}/{target.tree}/{CHECK_DEVICES[0]}/up/+"):
                return False, "refused: without it a second cloud worker would do everything twice"
        if not device.settled([device.post(target.topic("up"), b"%d" % n) for n in range(_SHARED)]):
            return False, "a device may not write its own up topics: see the access list"
        shares = [len(worker.hear(_SHARED + 1, _SILENCE_S)) for worker in (one, other)]
    return sum(shares) == _SHARED, f"of {_SHARED} messages the two workers got {shares[0]} and {shares[1]}"


def _retained(target: Target) -> Verdict:
    with target.cloud() as cloud:
        cloud.publish(target.topic("down"), b"task", retain=True)
        with target.device() as device:
            device.subscribe(target.topic("down"))
            heard = device.hear(1)
        cloud.publish(target.topic("down"), b"", retain=True)
    return heard == [b"task"], "a device that comes later finds its task" if heard else "a device finds no task"


def _expiry(target: Target) -> Verdict:
    with _away(target) as cloud:
        cloud.publish(target.topic("down"), b"old", expiry_s=_EXPIRY_S)
        cloud.publish(target.topic("down"), b"kept", expiry_s=_DAY_S)
        time.sleep(_EXPIRY_S + 1.1)  # brokers count whole seconds
    heard = _back(target, 1)
    if b"kept" not in heard:
        return False, "nothing was kept for a device that was away: does it keep sessions?"
    return heard == [b"kept"], "old chunks are dropped" if heard == [b"kept"] else "old chunks would fill queues"


def _queue(target: Target) -> Verdict:
    with _away(target) as cloud:
        cloud.settled([cloud.post(target.topic("down"), b"%d" % number) for number in range(_QUEUED)])
    heard = _back(target, _QUEUED)
    whole = heard == [b"%d" % number for number in range(_QUEUED)]
    advice = "" if whole else ": raise its queue's limit (Mosquitto's max_queued_messages 0)"
    return whole, f"{len(heard)} of {_QUEUED} messages waited for a device that was away{advice}"


def _packet(target: Target) -> Verdict:
    with target.cloud() as cloud, target.device() as device:
        cloud.subscribe(target.topic("up"))
        taken = device.publish(target.topic("up"), bytes(MAX_MESSAGE_BYTES))
        heard = cloud.hear(1) if taken else []
    whole = [len(payload) for payload in heard] == [MAX_MESSAGE_BYTES]
    return whole, f"a message of {MAX_MESSAGE_BYTES} bytes {'arrives' if whole else 'does not arrive'}"


def _others_up(target: Target) -> Verdict:
    with target.cloud() as cloud, target.device(1) as thief, target.device() as device:
        cloud.subscribe(target.topic("up"))
        thief.publish(target.topic("up"), b"forged")
        device.publish(target.topic("up"), b"true")
        heard = cloud.hear(2, _SILENCE_S)
    return heard == [b"true"], _refused(b"forged" not in heard, "a device speaks for another")


def _others_down(target: Target) -> Verdict:
    with target.cloud() as cloud, target.device(1) as spy, target.device() as device:
        for topic in (target.topic("down"), f"{target.tree}/+/down/#", "#"):
            spy.subscribe(topic)
        device.subscribe(target.topic("down"))
        cloud.publish(target.topic("down"), b"private")
        arrived, spied = device.hear(1), spy.hear(1, _SILENCE_S)
    return arrived == [b"private"] and not spied, _refused(not spied, "a device reads another's messages")


def _down(target: Target) -> Verdict:
    with target.device() as device:
        device.subscribe(target.topic("down"))
        device.publish(target.topic("down"), b"forged")
        heard = device.hear(1, _SILENCE_S)
    return not heard, _refused(not heard, "a device speaks as the cloud")


def _blobs(target: Target) -> Verdict:
    topic = f"{target.tree}/blob/{RESERVED_PREFIX}/0"
    with target.cloud() as cloud, target.device(1) as forger, target.device() as device:
        device.subscribe(topic)
        forger.publish(topic, b"forged")
        cloud.publish(topic, b"true")
        heard = device.hear(2, _SILENCE_S)
    if b"true" not in heard:
        return False, "a device cannot read the fleet's shared blobs: see the access list"
    return heard == [b"true"], _refused(heard == [b"true"], "a device writes shared blobs")


def _takeover(target: Target) -> Verdict:
    with target.device(0) as owner:
        try:
            with target.device(1, claim=0) as thief:
                thief.subscribe(f"{target.tree}/{CHECK_DEVICES[1]}/down/+")
                owner.subscribe(target.topic("down"))
                kept = owner.connected
        except ConnectionFailedError:
            kept = owner.connected
    return kept, _refused(kept, "a device takes another's session by its client id")


TRIALS: dict[str, Callable[[Target], Verdict]] = {
    "shared subscriptions": _shared,
    "retained messages": _retained,
    "message expiry": _expiry,
    "queue for the absent": _queue,
    "large messages": _packet,
    "others' up topics": _others_up,
    "others' down topics": _others_down,
    "own down topics": _down,
    "shared blobs": _blobs,
    "client ids": _takeover,
}
"""Every trial by the name of what it finds."""


@contextmanager
def _away(target: Target) -> Iterator[Probe]:
    """A worker's connection while the first device has a session at the broker and is away."""
    with target.device(session_s=_DAY_S) as device:
        device.subscribe(target.topic("down"))
    with target.cloud() as cloud:
        yield cloud


def _back(target: Target, count: int) -> list[bytes]:
    with target.device(clean=False) as device:  # and its session ends with this connection
        return device.hear(count)


def _refused(fine: bool, otherwise: str) -> str:
    return "refused" if fine else f"{otherwise}: see the access list"


def _context(identities: tuple[Identity, Identity] | None, number: int) -> ssl.SSLContext | None:
    return None if identities is None else identities[number].client_context()
