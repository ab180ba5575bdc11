"""Certificates: what is issued, and how unusable files are reported."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cloud_broker.errors import CertificateError
from cloud_broker.membership import certificates, signing
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity, load_certificate
from protocol.errors import MalformedMessageError


@pytest.fixture
def authority(tmp_path: Path) -> FleetAuthority:
    """A new fleet's authority."""
    return FleetAuthority(tmp_path / "certificates", "test")


def test_every_key_is_private_and_never_shown(authority: FleetAuthority) -> None:
    """Key files have mode 0600, their folder 0700, and no repr holds a key."""
    identities = [authority.broker(), authority.cloud_worker("cloud"), authority.device("dev-a")]
    keys = [authority.directory / "ca.key", *(identity.key_file for identity in identities)]
    assert [path.stat().st_mode & 0o777 for path in keys] == [0o600] * 4
    assert authority.directory.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(identities) + repr(authority)


def test_a_device_certificate_names_the_device_and_checks(authority: FleetAuthority) -> None:
    """The common name is the device's, and the three files pass their own check and load as TLS."""
    identity = authority.device("dev-a")
    assert load_certificate(identity.cert_file).subject.rfc4514_string() == "CN=dev-a"
    assert identity.client_context().cert_store_stats()["x509_ca"] == 1


def test_asking_again_returns_the_same_certificate(authority: FleetAuthority) -> None:
    """Issuing is idempotent, over a restart too."""
    first = authority.device("dev-a").cert_file.read_bytes()
    again = FleetAuthority(authority.directory, "test").device("dev-a")
    assert again.cert_file.read_bytes() == first


def test_the_broker_gets_a_new_certificate_when_its_names_change(authority: FleetAuthority) -> None:
    """Host names that devices reach the broker by are in its certificate, old and new."""
    before = authority.broker().cert_file.read_bytes()
    assert authority.broker().cert_file.read_bytes() == before
    assert authority.broker(["broker.example", "10.0.0.7"]).cert_file.read_bytes() != before


def test_an_expired_certificate_is_reported_and_issued_anew(
    authority: FleetAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Using an expired certificate is an error that says so; enrolling again replaces it."""
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", -1)
    expired = authority.device("dev-a")
    with pytest.raises(CertificateError, match=r"dev-a\.crt expired on"):
        expired.check()
    monkeypatch.setattr(certificates, "CERTIFICATE_DAYS", 1)
    authority.device("dev-a").check()


def test_a_certificate_from_the_future_is_reported(authority: FleetAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board whose clock lags hears that its clock may be wrong."""
    monkeypatch.setattr(signing, "BACKDATE", timedelta(hours=-2))
    identity = authority._identity("later", authority.directory, "later")
    authority._issue(identity, [])
    with pytest.raises(CertificateError, match="is the clock right"):
        identity.check()


@pytest.mark.parametrize("name", ["", "a/b", "+", "dev a", "#", "é", "x" * 64])
def test_a_name_that_cannot_stand_in_a_topic_is_refused(authority: FleetAuthority, name: str) -> None:
    """No certificate is issued for a name that would reach into other topics."""
    with pytest.raises(MalformedMessageError):
        authority.device(name)


def test_a_device_cannot_take_a_cloud_workers_name(authority: FleetAuthority) -> None:
    """Nor a worker a device's: the broker tells them apart by name alone."""
    authority.cloud_worker("cloud")
    authority.device("dev-a")
    with pytest.raises(CertificateError, match="already a name"):
        authority.device("cloud")
    with pytest.raises(CertificateError, match="already a name"):
        authority.cloud_worker("dev-a")


def test_a_missing_file_is_named(authority: FleetAuthority) -> None:
    """A certificate that cannot be read is an error with its path."""
    identity = authority.device("dev-a")
    identity.key_file.unlink()
    with pytest.raises(CertificateError, match=r"cannot read key .*dev-a\.key"):
        identity.check()
    identity.cert_file.unlink()
    with pytest.raises(CertificateError, match=r"cannot read certificate .*dev-a\.crt"):
        identity.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_named(authority: FleetAuthority) -> None:
    """So is one without permission."""
    identity = authority.device("dev-a")
    identity.key_file.chmod(0)
    with pytest.raises(CertificateError, match="Permission denied"):
        identity.check()


def test_a_file_that_is_not_pem_is_named(authority: FleetAuthority) -> None:
    """Neither garbage nor a certificate in a key's place is taken, and the text of a key file is not repeated."""
    identity = authority.device("dev-a")
    identity.key_file.write_text("-----BEGIN SECRET-----")
    with pytest.raises(CertificateError, match="not an unencrypted PEM private key") as caught:
        identity.check()
    assert "SECRET" not in str(caught.value)
    identity.cert_file.write_bytes(b"\x00garbage")
    with pytest.raises(CertificateError, match="not a PEM certificate"):
        identity.check()


def test_another_certificates_key_is_noticed(authority: FleetAuthority) -> None:
    """A key that does not fit its certificate is an error before any connection."""
    one, other = authority.device("dev-a"), authority.device("dev-b")
    mixed = Identity("dev-a", one.ca_file, one.cert_file, other.key_file)
    with pytest.raises(CertificateError, match=r"dev-b\.key is not the key of .*dev-a\.crt"):
        mixed.check()


def test_another_fleets_certificate_is_noticed(authority: FleetAuthority, tmp_path: Path) -> None:
    """A certificate of another authority does not pass, nor does opening one fleet's authority as another's."""
    stranger = FleetAuthority(tmp_path / "stranger", "other").device("dev-a")
    mixed = Identity("dev-a", authority.ca_file, stranger.cert_file, stranger.key_file)
    with pytest.raises(CertificateError, match="was not issued by"):
        mixed.check()
    with pytest.raises(CertificateError, match="another fleet"):
        FleetAuthority(authority.directory, "other")


def test_validity_spans_a_year(authority: FleetAuthority) -> None:
    """A device's certificate is valid now and for about a year."""
    certificate = load_certificate(authority.device("dev-a").cert_file)
    left = certificate.not_valid_after_utc - datetime.now(timezone.utc)
    assert timedelta(days=364) < left <= timedelta(days=365)
