"""Leaving a fleet: revoked certificates at a real Mosquitto, and what the device says."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from dataclasses import replace

import pytest

from cloud_broker.errors import CertificateError as CloudCertificateError
from cloud_broker.membership.fleet import members
from cloud_broker.membership.revocation import revoke
from edge.errors import CertificateError, RefusedError
from edge.service import EdgeService
from edge.tunnel.enrolment import enrol, renew
from protocol import topics
from protocol.messages import Presence
from tests.broker_fixtures import FLEET, Peer
from tests.security.conftest import Town

pytestmark = pytest.mark.broker


def test_a_revoked_device_is_cut_at_once_and_nobody_else(town: Town) -> None:
    """Its live connection is closed, it does not come back, and its neighbour and the cloud do not notice."""
    for name in ("owl", "owl-2"):
        town.join(name)
    lost, dropped = threading.Event(), threading.Event()
    cloud, good = Peer(town.broker, town.broker.cloud()), Peer(town.broker, town.identity("owl-2"))
    with cloud, good:
        bad = Peer(town.broker, town.identity("owl"), persistent=True)
        for peer in (good, cloud):
            peer._client.on_disconnect = lambda *_: dropped.set()
        bad._client.on_disconnect = lambda *_: lost.set()
        bad.listen()
        done = revoke(town.directory, "owl")
        assert (done.certificates, done.broker_told, done.disconnected) == (1, True, True)
        assert lost.wait(15)
        bad.close()
        with pytest.raises(ssl.SSLError, match="REVOKED"):
            _tls12(town, "owl")
        cloud.subscribe(topics.cloud_filter(FLEET))
        good.say(Presence(True), "not me")
        assert cloud.hear("presence").message_id == "not me"
        assert not dropped.is_set()
    states = {member.name: member.state for member in members(town.directory)}
    assert (states["owl"], states["owl-2"]) == ("revoked", "enrolled")
    assert revoke(town.directory, "owl").certificates == 0


def _tls12(town: Town, device: str, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """Shake hands in TLS 1.2, where a refusal ends the handshake, and say goodbye."""
    context = _CONTEXTS.setdefault(device, town.identity(device).client_context())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((town.broker.host, town.broker.port), 10) as connection,
        context.wrap_socket(connection, server_hostname=town.broker.host, session=session) as channel,
    ):
        kept = channel.session
        channel.unwrap()
        return kept


_CONTEXTS: dict[str, ssl.SSLContext] = {}


def test_a_session_ticket_is_no_way_around_revocation(town: Town) -> None:
    """A device that kept the TLS session of a good connection does not resume it once it is revoked."""
    town.join("pug")
    session = _tls12(town, "pug")
    assert session is not None
    revoke(town.directory, "pug")
    with pytest.raises(ssl.SSLError):
        _tls12(town, "pug", session)


def test_every_certificate_of_a_name_is_revoked(town: Town) -> None:
    """Also the one before the last renewal, and a token that waits is forgotten."""
    config = town.join("quail")
    shutil.copytree(town.homes / "quail", town.homes / "quail-copy")
    renew(config)
    token = town.token("quail")
    assert revoke(town.directory, "quail").certificates == 2
    with pytest.raises(RefusedError):
        enrol(token.to_text(), town.homes / "quail-again")
    for home in ("quail", "quail-copy"):
        with pytest.raises(ssl.SSLError, match="REVOKED"):
            _tls12(town, home)


def test_a_revoked_device_may_be_enrolled_again(town: Town) -> None:
    """A new token gives the name a new certificate; the old one stays useless."""
    town.join("rat")
    revoke(town.directory, "rat")
    shutil.rmtree(town.homes / "rat")
    town.join("rat")
    with Peer(town.broker, town.identity("rat")):
        pass
    assert next(one for one in members(town.directory) if one.name == "rat").state == "enrolled"


def test_revoking_without_a_broker_says_so(own_town: Town) -> None:
    """The list is on disk all the same, and is in force once the broker starts."""
    own_town.join("seal")
    own_town.broker.broker.stop()
    done = revoke(own_town.directory, "seal")
    assert (done.certificates, done.broker_told, done.disconnected) == (1, False, False)
    own_town.broker.broker.start()
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        _tls12(own_town, "seal")
    with pytest.raises(CloudCertificateError, match="nothing was ever issued"):
        revoke(own_town.directory, "nobody")


def test_the_edge_service_says_that_it_was_revoked(town: Town) -> None:
    """A revoked device's service does not crash: it ends with whose certificate was refused and why."""
    config = town.join("toad")
    revoke(town.directory, "toad")
    with pytest.raises(CertificateError, match="refuses this device's certificate"):
        EdgeService(replace(config, timeout_s=10.0)).run_once()
