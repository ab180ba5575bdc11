"""Taking a certificate back so that it works nowhere any more: list, broker, and the connection that lives.

The broker reads its revocation list again on SIGHUP and drops nobody, the revoked peer included. So afterwards the
authority connects once in that peer's name, with a certificate of its own that lives for minutes: the broker knows a
client by its certificate's name, takes this for the same client, closes the old connection and forgets its session.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from cloud_broker.errors import BrokerError
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity
from cloud_broker.membership.tokens import TokenBook
from cloud_broker.mosquitto.configuration import CERTIFICATES, BrokerConfig
from cloud_broker.mosquitto.probe import release

_EFFECT_TIMEOUT_S = 10.0
_POLL_S = 0.02
_CANARY = "CoDA canary"  # a space, so no peer has this name


@dataclass(frozen=True)
class Revocation:
    """What came of it.

    Attributes:
        certificates: How many were taken back now.
        broker_told: Whether the broker of this directory runs here and was seen to refuse by the new list.
        disconnected: Whether the peer's name was then taken over, so that it holds no connection.
    """

    certificates: int
    broker_told: bool
    disconnected: bool


def revoke(directory: Path, name: str) -> Revocation:
    """Take back the certificates of a device or worker of the fleet in ``directory``, and cut it off.

    Raises:
        CertificateError: If nothing was ever issued to that name, or there is no authority.
        BrokerError: If the broker runs and does not take the new list; the list is on disk all the same.
    """
    authority = FleetAuthority.open(directory / CERTIFICATES)
    TokenBook(directory).forget(name)
    with authority.temporary(_CANARY) as canary:
        taken_back = authority.book.revoke(name, also=canary)
        if (
            not (directory / "mosquitto.conf").exists()
            or running_broker(config := BrokerConfig.open(directory)) is None
        ):
            return Revocation(taken_back, broker_told=False, disconnected=False)
        reload_broker(config)
        _wait_until_refused(config, canary)
    take_over(config, authority, name)
    return Revocation(taken_back, broker_told=True, disconnected=True)


def running_broker(config: BrokerConfig) -> int | None:
    """The process id of the Mosquitto that serves this directory on this machine; None if none does."""
    try:
        pid = int(config.pid_file.read_text())
        # A pid file may outlive its process, and the number be another's by now.
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(config.config_file) in arguments else None


def reload_broker(config: BrokerConfig) -> None:
    """Have the running broker read certificates, revocation list and access list again. No connection is dropped.

    Raises:
        BrokerError: If none runs here.
    """
    pid = running_broker(config)
    if pid is None:
        raise BrokerError(f"no broker of {config.directory} runs on this machine: reload it where it does")
    os.kill(pid, signal.SIGHUP)


def take_over(config: BrokerConfig, authority: FleetAuthority, name: str) -> None:
    """Connect in a peer's name, so that the broker closes the peer's own connection and forgets its session.

    Raises:
        BrokerError: If the broker does not answer.
    """
    answers: list[Any] = []
    with authority.temporary(name) as identity:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        client.tls_set_context(identity.client_context())
        client.on_connect = lambda _client, _userdata, _flags, reason, _properties: answers.append(reason)
        deadline_s = time.monotonic() + _EFFECT_TIMEOUT_S
        try:
            client.connect(config.connect_host, config.port, clean_start=True)  # its session ends with this connection
            while not answers and time.monotonic() < deadline_s:
                if client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
        except OSError as error:
            raise BrokerError(f"cannot cut off {name} at the broker: {error}; restart it") from error
        finally:
            client.disconnect()
            release(client)
    if not answers or answers[0].is_failure:
        raise BrokerError(f"the broker did not let the authority cut off {name}: restart it")


def _wait_until_refused(config: BrokerConfig, canary: Identity) -> None:
    """Return once the broker refuses a certificate that stands in the new list: only then is the list in force."""
    context = canary.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # there, unlike in 1.3, a refusal ends the handshake
    deadline_s = time.monotonic() + _EFFECT_TIMEOUT_S
    while True:
        try:
            with (
                socket.create_connection((config.connect_host, config.port), _EFFECT_TIMEOUT_S) as connection,
                context.wrap_socket(connection, server_hostname=config.connect_host) as channel,
            ):
                channel.unwrap()
        except ssl.SSLError as error:
            if "REVOKED" in str(error.reason):
                return
        except OSError:
            pass  # said goodbye impolitely; it was let in
        if time.monotonic() > deadline_s:
            raise BrokerError(
                f"the broker of {config.directory} does not use {config.directory}/{CERTIFICATES}/crl.pem: set it up "
                "again with `coda broker init`, and restart it"
            )
        time.sleep(_POLL_S)
