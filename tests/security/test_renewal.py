"""Staying in a fleet: certificates renewed and rotated while connections live."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from cloud_broker.membership import certificates
from cloud_broker.membership.identity import load_certificate
from cloud_broker.membership.revocation import revoke
from cloud_broker.membership.rotation import rotate
from edge.errors import ConfigError, RefusedError
from edge.tunnel.enrolment import renew
from edge.tunnel.keys import certificate_request, new_key
from edge.tunnel.link import Link
from edge.tunnel.renewal import kept_current
from edge.tunnel.validity import validity
from protocol import topics
from protocol.enrolment import RENEW_PATH
from protocol.messages import Presence
from tests.broker_fixtures import FLEET, Peer
from tests.security.conftest import HOUR_S, Town

pytestmark = pytest.mark.broker


def test_renewing_needs_a_good_certificate(town: Town) -> None:
    """Without one, with another's name, or with one that was taken back, there is no new one."""
    config = town.join("ibex")
    request = {"request": certificate_request(new_key(), "ibex")}
    with pytest.raises(RefusedError, match="unknown or was taken back"):
        town.ask(RENEW_PATH, request)
    with pytest.raises(RefusedError, match="not for 'ibex'"):
        town.ask(RENEW_PATH, {"request": certificate_request(new_key(), "ibex-2")}, config.cert_file)
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
