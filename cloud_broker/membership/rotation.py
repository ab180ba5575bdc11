"""New certificates for the cloud's own side before the old ones expire: broker, enrolment service, workers."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity, load_certificate
from cloud_broker.membership.revocation import reload_broker, running_broker
from cloud_broker.mosquitto.configuration import CERTIFICATES, BrokerConfig
from protocol.enrolment import RENEW_BELOW


def rotate(directory: Path, *, everything: bool = False) -> list[Identity]:
    """Renew what has less than a third of its life left, with new keys, and have a broker that runs here read it.

    Connections that live go on. A worker shows its new certificate when it next connects, and the enrolment service on
    its next connection. Devices renew by themselves.

    Args:
        directory: The fleet's.
        everything: Renew whatever is left of its life.

    Returns:
        What was renewed.

    Raises:
        CertificateError: If there is no authority, or a file is unusable.
    """
    authority = FleetAuthority.open(directory / CERTIFICATES)
    due = [one for one in authority.own_identities() if everything or share_left(one) < RENEW_BELOW]
    for identity in due:
        authority.renew(identity)
    if due and (directory / "mosquitto.conf").exists():
        config = BrokerConfig.open(directory)
        if running_broker(config) is not None:
            reload_broker(config)
    return due


def share_left(identity: Identity) -> float:
    """The share of a certificate's life that is left; below 0 once it has expired."""
    certificate = load_certificate(identity.cert_file)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (ends - datetime.now(timezone.utc)) / (ends - begins)
