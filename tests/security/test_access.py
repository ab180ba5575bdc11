"""Whom a real Mosquitto lets in, and that it says whom it did not."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from cloud_broker.membership import signing
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import load_certificate, load_key
from cloud_broker.mosquitto.probe import release
from hardware.durable import write_private
from protocol import topics
from protocol.envelope import encode
from protocol.messages import Presence
from tests.broker_fixtures import FLEET, Peer
from tests.security.conftest import Town

pytestmark = pytest.mark.broker


def _pair(folder: Path, key: bytes, certificate: x509.Certificate) -> Path:
    path = folder / "pair.pem"
    write_private(path, key + signing.certificate_pem(certificate))
    return path


def _expired(town: Town, folder: Path) -> Path:
    with town.broker.config.authority().temporary("dev-a", timedelta(seconds=-60)) as identity:
        path = folder / "pair.pem"
        write_private(path, identity.key_file.read_bytes() + identity.cert_file.read_bytes())
        return path


def _self_signed(_town: Town, folder: Path) -> Path:
    key = signing.new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dev-a")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    return _pair(folder, signing.key_pem(key), builder.sign(key, hashes.SHA256()))


def _other_fleet(_town: Town, folder: Path) -> Path:
    identity = FleetAuthority(folder / "other", FLEET).device("dev-a")
    path = folder / "pair.pem"
    write_private(path, identity.key_file.read_bytes() + identity.cert_file.read_bytes())
    return path


def _signed_by_a_device(town: Town, folder: Path) -> Path:
    device, key = town.broker.device("signer"), signing.new_key()
    issuer = signing.Issuer(load_certificate(device.cert_file), load_key(device.key_file))
    forged = signing.sign_peer(issuer, "cloud", key.public_key(), timedelta(days=1))
    path = folder / "pair.pem"
    write_private(path, signing.key_pem(key) + signing.certificate_pem(forged) + device.cert_file.read_bytes())
    return path


def _revoked(town: Town, folder: Path) -> Path:
    identity = town.broker.config.authority().revoked_probe()
    path = folder / "pair.pem"
    write_private(path, identity.key_file.read_bytes() + identity.cert_file.read_bytes())
    return path


CASES = {
    "expired": _expired,
    "self-signed": _self_signed,
    "of another fleet": _other_fleet,
    "signed by a device": _signed_by_a_device,
    "revoked": _revoked,
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("case", CASES)
def test_a_bad_certificate_is_refused_and_logged(
    town: Town, tmp_path: Path, case: str, version: ssl.TLSVersion
) -> None:
    """Expired, self-signed, of another authority, signed by a mere device, revoked: no entry in either TLS version."""
    already = len(town.broker.config.log_file.read_text())
    pair = CASES[case](town, tmp_path)
    context = ssl.create_default_context(cafile=str(town.broker.config.authority().ca_file))
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(pair, pair)
    with (
        pytest.raises(ssl.SSLError, match=r"EXPIRED|UNKNOWN_CA|REVOKED|DECRYPT_ERROR|BAD_CERTIFICATE|INVALID_CA"),
        socket.create_connection((town.broker.host, town.broker.port), 10) as connection,
        context.wrap_socket(connection, server_hostname=town.broker.host) as channel,
    ):
        channel.recv(1)  # in TLS 1.3 a refusal comes after the handshake
    with Peer(town.broker, town.broker.device("good")):  # Mosquitto has one thread: it has written by now
        pass
    assert "certificate verify failed" in town.broker.config.log_file.read_text()[already:]


def test_a_last_will_is_bound_by_the_access_list_too(town: Town) -> None:
    """A device cannot have the broker say something in another's name once it is gone; in its own it can.

    Mosquitto takes such a will, and does not speak it. Connecting again under the same name ends the first connection,
    and so speaks its will, before the second is let in.
    """
    identity = town.broker.device("testator")
    with Peer(town.broker, town.broker.cloud()) as cloud:
        cloud.subscribe(topics.cloud_filter(FLEET))
        for heir in ("victim", "testator"):
            client = mqtt.Client(CallbackAPIVersion.VERSION2, "testator", protocol=mqtt.MQTTv5)
            client.tls_set_context(identity.client_context())
            connected: list[object] = []
            client.on_connect = lambda *_, seen=connected: seen.append(1)
            client.will_set(topics.up(FLEET, heir, "presence"), encode(Presence(False), heir), qos=1)
            client.connect(town.broker.host, town.broker.port)
            while not connected and client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
                pass
            with Peer(town.broker, identity):
                client.loop(1.0)
            release(client)
        assert cloud.hear("presence").message_id == "testator"
