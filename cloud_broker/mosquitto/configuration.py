"""Configuration of a private, hardened Mosquitto: TLS with a certificate for everyone, and who may use which topic."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.errors import BrokerError
from cloud_broker.files import make_private_directory
from cloud_broker.membership.certificates import RESERVED_PREFIX, FleetAuthority
from cloud_broker.membership.identity import Identity
from hardware.durable import write_private
from protocol.topics import MAX_MESSAGE_BYTES, ROOT, SHARED, check_name

CERTIFICATES = "certificates"
# `coda broker check` probes in these names' topics alone; see `access_list`.
CHECK_CLOUDS = (f"{RESERVED_PREFIX}-cloud", f"{RESERVED_PREFIX}-cloud-2")
CHECK_DEVICES = (f"{RESERVED_PREFIX}-a", f"{RESERVED_PREFIX}-b")
_PACKET_OVERHEAD_BYTES = 4 << 10  # topic and MQTT 5 properties around a payload
_QUEUED_BYTES = 256 << 20
_INFLIGHT_MESSAGES = 100
CHANGES_UNSAVED = 2000  # two seconds of 1,000 questions each
MAX_CONNECTIONS = 20_000


@dataclass(frozen=True)
class BrokerConfig:
    """Where a private broker keeps its files and listens.

    Attributes:
        directory: Holds ``mosquitto.conf``, the access list, the log, the persisted queue and ``certificates/``.
        fleet: The fleet it serves.
        host: Address it listens on.
        port: Port it listens on.
    """

    directory: Path
    fleet: str
    host: str
    port: int

    @property
    def config_file(self) -> Path:
        """Mosquitto's configuration."""
        return self.directory / "mosquitto.conf"

    @property
    def acl_file(self) -> Path:
        """The access list."""
        return self.directory / "acl"

    @property
    def insecure_acl_file(self) -> Path:
        """The access list of the listener without TLS, where there is one."""
        return self.directory / "acl-insecure"

    @property
    def log_file(self) -> Path:
        """Mosquitto's log."""
        return self.directory / "mosquitto.log"

    @property
    def pid_file(self) -> Path:
        """Mosquitto's process id, while it runs."""
        return self.directory / "mosquitto.pid"

    @property
    def connect_host(self) -> str:
        """A name by which this machine reaches the broker and that its certificate holds."""
        return "localhost" if _is_wildcard(self.host) else self.host

    def authority(self) -> FleetAuthority:
        """The fleet's certificate authority."""
        return FleetAuthority(self.directory / CERTIFICATES, self.fleet)

    @classmethod
    def open(cls, directory: Path) -> BrokerConfig:
        """The broker that was set up in ``directory``.

        Raises:
            BrokerError: If none was.
            CertificateError: If there is no authority.
        """
        config = directory.resolve() / "mosquitto.conf"
        try:
            lines = [line.split() for line in config.read_text().splitlines()]
        except OSError as error:
            raise BrokerError(
                f"cannot read {config}: {error.strerror}; set a broker up with `coda broker init`"
            ) from error
        words = next((line for line in lines if line[:1] == ["listener"]), [])
        if len(words) != 3 or not words[1].isdigit():
            raise BrokerError(f"{config} names no listener with its address: it is not one of `coda broker init`")
        fleet = FleetAuthority.open(directory / CERTIFICATES).fleet
        return cls(directory.resolve(), fleet, words[2], int(words[1]))


def write_broker_directory(
    directory: Path,
    fleet: str,
    host: str = "127.0.0.1",
    port: int = 8883,
    cloud_names: Sequence[str] = ("cloud",),
    *,
    host_names: Sequence[str] = (),
    journal: bool = False,
    insecure_port: int | None = None,
) -> BrokerConfig:
    """Write everything a private Mosquitto needs: certificates (those missing), access list and configuration.

    Args:
        directory: Created if missing, readable by its owner alone.
        fleet: Name of the fleet.
        host: Address to listen on; ``0.0.0.0`` for all.
        port: Port to listen on.
        cloud_names: Names of the cloud workers; each gets its own certificate.
        host_names: Further names or addresses that devices reach the broker by.
        insecure_port: Also let anyone on this machine, and no other, read everything at this port, without TLS and
            without a certificate, to look in with any MQTT tool. Nothing can be written there.
        journal: Whether the log goes to standard output, where a service's manager takes it and bounds it.

    Raises:
        BrokerError: If the port is not one.
        MalformedMessageError: If a name cannot stand in a topic.
        CertificateError: If certificates that are already there are unusable.
    """
    for wanted in (port, insecure_port):
        if wanted is not None and not 1 <= wanted <= 65535:
            raise BrokerError(f"port {wanted} is not in 1..65535")
    config = BrokerConfig(directory.resolve(), fleet, host, port)
    make_private_directory(config.directory)
    authority = config.authority()
    authority.revoked_probe()
    identity = authority.broker([name for name in (host, *host_names) if not _is_wildcard(name)])
    for name in cloud_names:
        authority.cloud_worker(name)
    write_private(config.acl_file, access_list(fleet, cloud_names).encode())
    text = _mosquitto_conf(config, identity, authority.book.crl_file, journal)
    if insecure_port is not None:
        text += _insecure_listener(config, insecure_port)
        write_private(config.insecure_acl_file, f"topic read {ROOT}/{fleet}/#\n".encode())
    write_private(config.config_file, text.encode())
    return config


def access_list(fleet: str, cloud_names: Sequence[str]) -> str:
    """What each certificate's name may do; whatever is not listed is denied.

    Mosquitto answers a forbidden publish with "not authorized" and drops the connection. It grants every subscription
    but delivers only what the name may read, so a forbidden subscription stays silent. The last names are those of
    `coda broker check`, which get certificates for minutes and reach one probing device.
    """
    tree = f"{ROOT}/{check_name(fleet, 'fleet')}"
    lines = [f"pattern write {tree}/%u/up/#", f"pattern read {tree}/%u/down/#", f"pattern read {tree}/{SHARED}/#"]
    for name in cloud_names:
        lines += ["", f"user {name}", f"topic read {tree}/+/up/#"]
        lines += [f"topic write {tree}/+/down/#", f"topic write {tree}/{SHARED}/#"]
    probe = CHECK_DEVICES[0]
    for name in CHECK_CLOUDS:
        lines += ["", f"user {name}", f"topic read {tree}/{probe}/up/#"]
        lines += [f"topic write {tree}/{probe}/down/#", f"topic write {tree}/{SHARED}/{RESERVED_PREFIX}/#"]
    return "\n".join(lines) + "\n"


def _mosquitto_conf(config: BrokerConfig, identity: Identity, crl_file: Path, journal: bool) -> str:
    # One line an option; comments only where Mosquitto's default would hurt.
    return f"""\
per_listener_settings true
listener {config.port} {config.host}
cafile {identity.ca_file}
certfile {identity.cert_file}
keyfile {identity.key_file}
# Read again on SIGHUP, as are the certificate and the access list; connections that live are not dropped.
crlfile {crl_file}
tls_version tlsv1.2
ciphers ECDHE+AESGCM:ECDHE+CHACHA20
require_certificate true
use_identity_as_username true
# A client is known by its certificate, whatever client id it claims, so no device can take over another's session.
use_username_as_clientid true
allow_anonymous false
allow_zero_length_clientid false
acl_file {config.acl_file}

# Counts only if root starts it: by default it would then drop to user "mosquitto", who cannot read this directory.
user root

# It writes all of its state each time, and serves nobody meanwhile: after every change, 5 MB of shared chunks made a
# round trip take 14 ms instead of 0.4; after every 100, 5,000 devices that ask 1,000 times a second had it stand still
# ten times a second, which was half of its time. After a SIGKILL the last changes are gone, so the tunnel counts a
# message as delivered only when its receiver says so, and the cloud leaves tasks anew whenever the broker comes back.
persistence true
persistence_location {config.directory}/
autosave_interval {CHANGES_UNSAVED}
autosave_on_changes true

# The default, 1000 messages, silently drops the rest for a slow subscriber; bytes bound the memory here.
max_queued_messages 0
max_queued_bytes {_QUEUED_BYTES}
max_inflight_messages {_INFLIGHT_MESSAGES}
message_size_limit {MAX_MESSAGE_BYTES}
max_packet_size {MAX_MESSAGE_BYTES + _PACKET_OVERHEAD_BYTES}
max_connections {MAX_CONNECTIONS}
max_keepalive 600
persistent_client_expiration 30d

# Without it, small messages wait for Nagle's algorithm: 88 ms a round trip instead of 0.4.
set_tcp_nodelay true

pid_file {config.pid_file}
sys_interval 0
log_dest {f"file {config.log_file}" if not journal else "stdout"}
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


def _insecure_listener(config: BrokerConfig, port: int) -> str:
    # The address is not the caller's to choose.
    return f"""
listener {port} 127.0.0.1
allow_anonymous true
acl_file {config.insecure_acl_file}
"""


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
