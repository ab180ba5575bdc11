"""Joining a fleet, staying in it, and leaving it: real certificates, a real Mosquitto, the real enrolment service."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import ssl
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_broker import certificates, signing
from cloud_broker.certificates import FleetAuthority
from cloud_broker.errors import CertificateError as CloudCertificateError
from cloud_broker.fleet import members
from cloud_broker.identity import load_certificate
from cloud_broker.revocation import revoke
from cloud_broker.rotation import rotate
from cloud_broker.tokens import TokenBook
from edge import enrolment
from edge.enrolment import enrol, renew
from edge.errors import CertificateError, ConfigError, LinkError, RefusedError, UnreachableError
from edge.keys import certificate_request, new_key, validity
from edge.link import Link
from edge.renewal import kept_current
from edge.service import EdgeService
from protocol import topics
from protocol.enrolment import ENROL_PATH, RENEW_PATH
from protocol.errors import MalformedMessageError
from protocol.messages import Accepted, Presence
from tests.broker_fixtures import FLEET, Peer
from tests.security.conftest import HOUR_S, Town

pytestmark = pytest.mark.broker


def test_a_device_joins_and_speaks(town: Town) -> None:
    """A token makes a stranger a member: it says hello at the broker, and hears what is said to it."""
    town.join("ant")
    with Peer(town.broker, town.identity("ant")) as device, Peer(town.broker, town.broker.cloud()) as cloud:
        device.listen()
        assert not device.say(Presence(True), "m").is_failure
        cloud.say(Accepted("x"), "y", device="ant")
        assert device.hear().message == Accepted("x")


def test_the_key_never_leaves_the_device(own_town: Town) -> None:
    """Nothing under the fleet's directory holds the device's key; on the device all secrets have mode 0600."""
    config = own_town.join("bee")
    key = config.key_file.read_text().split("-----END PRIVATE KEY-----")[0].split("-----\n")[1].strip()
    kept = [path.read_text(errors="replace") for path in own_town.directory.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert not any(key in text for text in kept)
    assert {path.stat().st_mode & 0o777 for path in config.key_file.parent.iterdir()} == {0o600}


def test_the_cloud_keeps_no_secret_of_a_token(town: Town) -> None:
    """Only its digest is on the cloud's disk, mode 0600; no repr and no error shows it."""
    token = town.token("cat")
    kept = town.directory / "tokens" / "cat.json"
    assert token.secret.hex() not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "secret" not in repr(token)
    assert repr(token.secret)[2:-1] not in repr(token)
    with pytest.raises(MalformedMessageError) as caught:
        type(token).from_text(token.to_text()[:-3])
    assert token.to_text()[8:40] not in str(caught.value)


def test_a_token_works_once(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    """A second device with the same token is refused, and the log says who asked but not what with."""
    token = town.token("doe")
    enrol(token.to_text(), town.homes / "doe")
    with caplog.at_level(logging.DEBUG), pytest.raises(RefusedError, match="unknown, used or expired"):
        enrol(token.to_text(), town.homes / "doe-thief")
    assert "refused /v1/enrol of 127.0.0.1" in caplog.text
    assert not (town.homes / "doe-thief" / "identity.pem").exists()
    assert token.to_text()[6:] not in caplog.text
    assert token.secret.hex() not in caplog.text


def test_a_cut_exchange_can_be_repeated(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose answer was lost asks again with the same token, for the same key, and joins."""
    token = town.token("elk")

    def lose(*_: object) -> None:
        raise UnreachableError("cut before the answer was on disk")

    with monkeypatch.context() as cut:
        cut.setattr(enrolment, "_keep", lose)
        with pytest.raises(UnreachableError):
            enrol(token.to_text(), town.homes / "elk")
    enrol(token.to_text(), town.homes / "elk")
    with Peer(town.broker, town.identity("elk")):
        pass


def test_an_expired_or_replaced_token_is_refused(town: Town) -> None:
    """A token has its day, and a new one for the same name makes the old one useless."""
    token = town.token("fox")
    town.token("fox")
    with pytest.raises(RefusedError, match="expired"):
        enrol(token.to_text(), town.homes / "fox")
    late = replace(token, secret=TokenBook(town.directory).new("fox", -1.0))
    with pytest.raises(RefusedError, match="expired"):
        enrol(late.to_text(), town.homes / "fox")


def test_a_false_service_gets_no_secret(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the authority is not the token's, the device stops before it sends anything worth stealing."""
    stranger = FleetAuthority(tmp_path / "stranger", FLEET).fingerprint
    sent: list[object] = []
    ask = enrolment._ask

    def note(*arguments: Any) -> dict[str, Any]:
        sent.append(arguments[-1])
        return ask(*arguments)

    monkeypatch.setattr(enrolment, "_ask", note)
    with pytest.raises(CertificateError, match="The token was not sent"):
        enrol(replace(town.token("gnu"), authority_sha256=stranger).to_text(), town.homes / "gnu")
    assert sent == [None]


@pytest.mark.parametrize("name", ["cloud", "blob", "coda-check-cloud"])
def test_a_name_with_rights_cannot_be_invited(town: Town, name: str) -> None:
    """Neither a worker's name nor one that the fleet uses itself is given to a device."""
    with pytest.raises(CloudCertificateError, match="choose another"):
        town.token(name)


def _ask(town: Town, path: str, body: dict[str, Any], shown: Path | None = None) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(town.broker.config.authority().ca_file))
    if shown is not None:
        context.load_cert_chain(shown, shown)
    return enrolment._ask("localhost", town.server.port, context, path, body)


def test_hostile_requests_are_refused(town: Town) -> None:
    """For another's name, unsigned, of another kind, too large, or mistyped: refused, and the token still works."""
    token = town.token("hen")
    good = {"device": "hen", "secret": token.secret, "request": certificate_request(new_key(), "hen")}
    broken: list[dict[str, Any]] = [
        {**good, "request": certificate_request(new_key(), "hen-2")},
        {**good, "request": good["request"][:-80]},
        {**good, "request": b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 4000},
        {**good, "secret": b"\0" * 32},
        {**good, "secret": token.secret.hex()},
        {**good, "device": "../ca"},
        {**good, "device": 7},
        {**good, "request": b"x" * 20000},
        {},
    ]
    for body in broken:
        with pytest.raises(LinkError):
            _ask(town, ENROL_PATH, body)
    with pytest.raises(RefusedError, match="nothing is here"):
        _ask(town, "/v1/../../ca.key", good)
    assert b"BEGIN CERTIFICATE" in _ask(town, ENROL_PATH, good)["certificate"]


def test_renewing_needs_a_good_certificate(town: Town) -> None:
    """Without one, with another's name, or with one that was taken back, there is no new one."""
    config = town.join("ibex")
    request = {"request": certificate_request(new_key(), "ibex")}
    with pytest.raises(RefusedError, match="unknown or was taken back"):
        _ask(town, RENEW_PATH, request)
    with pytest.raises(RefusedError, match="not for 'ibex'"):
        _ask(town, RENEW_PATH, {"request": certificate_request(new_key(), "ibex-2")}, config.cert_file)
    revoke(town.directory, "ibex")
    with pytest.raises(RefusedError, match="taken back"):
        renew(config)


def test_renewal_changes_the_key_and_drops_nothing(town: Town) -> None:
    """A live connection goes on over its renewal, and the next one shows the new certificate."""
    config = town.join("jay")
    before = load_certificate(config.cert_file).serial_number
    with Peer(town.broker, town.identity("jay")) as device:
        renew(config)
        device.listen()
        assert not device.say(Presence(True), "still here").is_failure
    assert load_certificate(config.cert_file).serial_number != before
    with Peer(town.broker, town.identity("jay")) as device:
        assert not device.say(Presence(True), "here again").is_failure


def test_the_link_takes_up_a_renewed_certificate(own_town: Town) -> None:
    """A running service's link, made with the old certificate, gets in with the new one once the old is revoked."""
    config = own_town.join("kid")
    first = load_certificate(config.cert_file).serial_number
    with Link(config) as link:
        link.open(15)
        renew(config)
        book = own_town.broker.config.authority().book
        book._write_crl([first])
        own_town.broker.broker.stop()
        own_town.broker.broker.start()
        while link.connections < 2:
            link.receive(0.1)
        link.open(15)


def test_a_service_renews_by_itself(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate near its end is renewed as soon as the service runs; one that is fresh is left alone."""
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", 0.25)
    config = town.join("lark")
    monkeypatch.undo()
    assert validity(config.cert_file).share_left(validity(config.cert_file).ends_s - HOUR_S) < 1 / 3
    told: list[dict[str, Any]] = []
    renewed = threading.Event()

    def tell(event: dict[str, Any]) -> None:
        told.append(event)
        renewed.set()

    stop = threading.Event()
    for _ in range(2):
        with kept_current(config, stop, tell):
            assert renewed.wait(15)
    assert told[0] == {"event": "certificate-renewed", "device": "lark"}
    assert validity(config.cert_file).ends_s - validity(config.cert_file).begins_s > 300 * 24 * HOUR_S


def test_a_failed_renewal_is_told_and_keeps_what_is_there(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service is away, the old certificate stays and the event says why."""
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", 0.25)
    config = replace(town.join("mole"), enrolment_port=1)
    before = config.cert_file.read_bytes()
    failed = threading.Event()
    told: list[dict[str, Any]] = []

    def tell(event: dict[str, Any]) -> None:
        told.append(event)
        failed.set()

    with kept_current(config, threading.Event(), tell):
        assert failed.wait(15)
    assert told[0]["event"] == "renewal-failed"
    assert "localhost:1" in told[0]["reason"]
    assert config.cert_file.read_bytes() == before
    with pytest.raises(ConfigError, match="enrol again"):
        renew(replace(config, enrolment_port=None))


def test_rotation_drops_nobody(own_town: Town) -> None:
    """Broker, enrolment service and workers get new certificates while a device and a worker are connected."""
    config = own_town.join("newt")
    authority = own_town.broker.config.authority()
    old = {one.name: load_certificate(one.cert_file).serial_number for one in authority.own_identities()}
    assert rotate(own_town.directory) == []
    with (
        Peer(own_town.broker, own_town.identity("newt")) as device,
        Peer(own_town.broker, own_town.broker.cloud()) as cloud,
    ):
        assert (
            {one.name for one in rotate(own_town.directory, everything=True)}
            == set(old)
            == {
                "CoDA broker",
                "CoDA enrolment",
                "cloud",
            }
        )
        cloud.subscribe(topics.cloud_filter(FLEET))
        device.say(Presence(True), "still here")
        assert cloud.hear("presence").message_id == "still here"
    new = {one.name: load_certificate(one.cert_file).serial_number for one in authority.own_identities()}
    assert not set(old.values()) & set(new.values())
    renew(config)
    with Peer(own_town.broker, own_town.broker.cloud()):
        pass


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
        bad._client.loop_stop()
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
    import socket

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


def test_an_issuer_shows_no_key() -> None:
    """Neither repr nor str of what holds the authority's key shows it."""
    from cryptography import x509

    issuer = signing.new_authority(x509.Name([]))
    assert str(issuer.key.private_numbers().private_value) not in repr(issuer) + str(vars(issuer))
    assert "key=***" in repr(issuer)


def test_silent_and_senseless_peers_hold_up_nobody(town: Town) -> None:
    """While crowds say nothing or speak no TLS, all at once and again and again, devices join."""
    address = ("127.0.0.1", town.server.port)
    for crowd in range(10):
        with contextlib.ExitStack() as stack:
            for number in range(20):
                peer = stack.enter_context(socket.create_connection(address, 10))
                if number % 2:
                    peer.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\0" * 100)
            town.join(f"zebu-{crowd}")
