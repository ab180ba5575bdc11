"""Joining a fleet: real certificates, a real Mosquitto, the real enrolment service."""

from __future__ import annotations

import contextlib
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_broker.errors import CertificateError as CloudCertificateError
from cloud_broker.membership import signing
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.tokens import TokenBook
from edge.errors import CertificateError, LinkError, RefusedError, UnreachableError
from edge.tunnel import enrolment
from edge.tunnel.enrolment import enrol
from edge.tunnel.keys import certificate_request, new_key
from protocol.enrolment import ENROL_PATH
from protocol.errors import MalformedMessageError
from protocol.messages import Accepted, Presence
from tests.broker_fixtures import FLEET, Peer
from tests.security.conftest import Town

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
            town.ask(ENROL_PATH, body)
    with pytest.raises(RefusedError, match="nothing is here"):
        town.ask("/v1/../../ca.key", good)
    assert b"BEGIN CERTIFICATE" in town.ask(ENROL_PATH, good)["certificate"]


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
