"""A fleet's directory: its authority, where its devices find it, and the tokens that let one more join.

{directory}/fleet.json                 the fleet's name, address and ports
{directory}/certificates/              see `cloud_broker.membership.certificates`
{directory}/tokens/{device}.json       a token given out: the digest of its secret, never the secret
{directory}/mosquitto.conf, acl, ...   its broker, see `cloud_broker.mosquitto.configuration`
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from cloud_broker.errors import ConfigError
from cloud_broker.files import make_private_directory
from cloud_broker.membership.certificates import RESERVED_PREFIX, FleetAuthority
from cloud_broker.membership.issued import Issued
from cloud_broker.membership.tokens import TokenBook
from cloud_broker.mosquitto.configuration import CERTIFICATES
from hardware.durable import write_private
from protocol.enrolment import EnrolmentToken
from protocol.topics import NAME_PATTERN, check_name

_FILE = "fleet.json"


@dataclass(frozen=True)
class Fleet:
    """Where a fleet is found.

    Attributes:
        name: The fleet's.
        address: Host name or address by which devices reach broker and enrolment service.
        broker_port: The broker's port.
        enrolment_port: The enrolment service's port.
    """

    name: str
    address: str
    broker_port: int = 8883
    enrolment_port: int = 8884

    def __post_init__(self) -> None:
        check_name(self.name, "fleet")
        for port in (self.broker_port, self.enrolment_port):
            if not 1 <= port <= 65535:
                raise ConfigError(f"port {port} is not in 1..65535")
        if not self.address or self.address != self.address.strip():
            raise ConfigError(f"address {self.address!r} is not a host's name or address")

    @classmethod
    def create(cls, directory: Path, fleet: Fleet) -> FleetAuthority:
        """Make a fleet's directory and its authority; a fleet that is there keeps its authority and gets the address.

        Raises:
            CertificateError: If another fleet is there.
        """
        make_private_directory(directory)
        authority = FleetAuthority(directory / CERTIFICATES, fleet.name)
        write_private(directory / _FILE, json.dumps(asdict(fleet), indent=1).encode())
        return authority

    @classmethod
    def open(cls, directory: Path) -> Fleet:
        """The fleet of a directory.

        Raises:
            ConfigError: If there is none, or its file is damaged.
        """
        path = directory / _FILE
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise ConfigError(f"no fleet in {directory}: make one with `coda fleet init`") from error
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged: write it again with `coda fleet init`") from error


@dataclass(frozen=True)
class Member:
    """Who belongs to a fleet, or is about to, or did.

    Attributes:
        name: Its name.
        kind: ``device``, ``cloud`` or ``service``.
        state: ``enrolled``, ``revoked``, ``expired`` or ``invited`` (a token waits for it).
        expires: Day on which its newest certificate expires; None for who has none.
    """

    name: str
    kind: str
    state: str
    expires: str | None


def new_token(directory: Path, device: str, lifetime_s: float) -> EnrolmentToken:
    """A one-time token for a device to join the fleet in ``directory``; it holds a secret: show it once, log it never.

    Raises:
        CertificateError: If the name is a cloud worker's or reserved.
        MalformedMessageError: If it is not a name.
    """
    fleet, authority = Fleet.open(directory), FleetAuthority.open(directory / CERTIFICATES)
    authority.check_device_name(device)
    secret = TokenBook(directory).new(device, lifetime_s)
    ports = (fleet.broker_port, fleet.enrolment_port)
    return EnrolmentToken(fleet.name, device, fleet.address, *ports, authority.fingerprint, secret)


def members(directory: Path) -> list[Member]:
    """Everyone with a certificate of the fleet in ``directory``, and everyone with a token, by kind and name."""
    authority = FleetAuthority.open(directory / CERTIFICATES)
    workers = {path.stem for path in (directory / CERTIFICATES / "cloud").glob("*.crt")}
    newest = [one for one in authority.book.newest() if not one.name.startswith(RESERVED_PREFIX)]
    found = [_member(one, workers) for one in newest]
    enrolled = {member.name for member in found if member.state == "enrolled"}
    invited = set(TokenBook(directory).waiting()) - enrolled
    found = [member for member in found if member.name not in invited]
    found += [Member(name, "device", "invited", None) for name in invited]
    return sorted(found, key=lambda member: (member.kind, member.name))


def _member(one: Issued, workers: set[str]) -> Member:
    expired = one.expires < datetime.now(timezone.utc)
    state = "revoked" if one.revoked else "expired" if expired else "enrolled"
    kind = "cloud" if one.name in workers else "device" if NAME_PATTERN.fullmatch(one.name) else "service"
    return Member(one.name, kind, state, f"{one.expires:%Y-%m-%d}")
