"""A fleet's directory: its authority, where its devices find it, and the tokens that let one more join.

{directory}/fleet.json                 the fleet's name, address and ports
{directory}/certificates/              see `cloud_broker.certificates`
{directory}/tokens/{device}.json       a token given out: the digest of its secret, never the secret
{directory}/mosquitto.conf, acl, ...   its broker, see `cloud_broker.broker_config`
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cloud_broker.broker_config import CERTIFICATES
from cloud_broker.certificates import FleetAuthority
from cloud_broker.errors import ConfigError
from cloud_broker.files import make_private_directory, write_private_file
from protocol.topics import check_name

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
        write_private_file(directory / _FILE, json.dumps(asdict(fleet), indent=1).encode())
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
