"""Does a broker do all that the tunnel needs? Tried, not looked up: each answer comes from speaking to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cloud_broker.errors import BrokerError, ConnectionFailedError
from cloud_broker.membership.certificates import RESERVED_PREFIX, FleetAuthority
from cloud_broker.membership.identity import Identity
from cloud_broker.mosquitto.configuration import CERTIFICATES, CHECK_CLOUDS, CHECK_DEVICES
from cloud_broker.mosquitto.probe import Probe
from cloud_broker.mosquitto.tls_check import Finding, check_tls
from cloud_broker.mosquitto.trials import TRIALS, Target
from protocol.topics import MAX_MESSAGE_BYTES

_SCHEMES = {"mqtts": 8883, "mqtt": 1883}


def check_broker(url: str, directory: Path | None) -> Iterator[Finding]:
    """Try everything, and tell each finding as it is made; ends early where nothing more can be tried.

    Args:
        url: ``mqtts://HOST[:PORT]``, or ``mqtt://`` for a broker without TLS, which is then what is wrong with it.
        directory: The fleet's, whose authority makes the probes' certificates for some minutes; None without TLS.

    Raises:
        BrokerError: If the URL is not one of a broker, or TLS is to be spoken and there is no fleet.
        CertificateError: If the authority is unusable.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise BrokerError(f"{url!r} is not a broker's address: use mqtts://HOST:PORT")
    port = parts.port or _SCHEMES[parts.scheme]
    authority = None if directory is None else FleetAuthority.open(directory / CERTIFICATES)
    fleet = RESERVED_PREFIX if authority is None else authority.fleet
    if parts.scheme == "mqtt":
        yield Finding("tls", False, "spoken without TLS: anyone on the way reads and writes everything; use mqtts://")
        yield from _check_all(Target(parts.hostname, port, fleet, None, None))
        return
    if authority is None:
        raise BrokerError("certificates are needed to speak TLS with it: name the fleet with --dir")
    with _identities(authority, CHECK_CLOUDS) as clouds, _identities(authority, CHECK_DEVICES) as devices:
        yield from check_tls(parts.hostname, port, authority, devices[0])
        yield from _check_all(Target(parts.hostname, port, fleet, clouds, devices))


def _check_all(target: Target) -> Iterator[Finding]:
    try:
        with target.device() as device:
            yield Finding("mqtt 5", True, "spoken")
            yield from _stated(device)
    except ConnectionFailedError as error:
        yield Finding("mqtt 5", False, f"no connection: {error}")
        return
    for name, tried in TRIALS.items():
        try:
            yield Finding(name, *tried(target))
        except ConnectionFailedError as error:
            yield Finding(name, False, f"could not be tried: {error}")


def _stated(device: Probe) -> Iterator[Finding]:
    """What the broker's CONNACK says; by the standard, what it leaves out has no limit."""
    stated = device.properties
    packet = stated.get("MaximumPacketSize")
    yield Finding("stated packet size", packet is None or packet > MAX_MESSAGE_BYTES, f"{packet or 'no limit'}")
    wanted = {"SharedSubscriptionAvailable": 1, "WildcardSubscriptionAvailable": 1, "RetainAvailable": 1}
    lacking = [name for name, least in {**wanted, "MaximumQoS": 1}.items() if stated.get(name, least) < least]
    yield Finding("stated abilities", not lacking, f"lacks {', '.join(lacking)}" if lacking else "all that is needed")


@contextmanager
def _identities(authority: FleetAuthority, names: tuple[str, str]) -> Iterator[tuple[Identity, Identity]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(authority.temporary(name)) for name in names)
        yield first, second
