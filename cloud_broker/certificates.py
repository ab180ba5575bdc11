"""A fleet's certificate authority, and one certificate for the broker, each cloud worker and each device.

    {directory}/ca.crt, ca.key                 the fleet's authority (EC P-256)
    {directory}/broker.crt, broker.key         the broker, for the names it is reached by
    {directory}/cloud/{name}.crt, .key         one cloud worker
    {directory}/devices/{name}.crt, .key       one device; its common name is the device's name in topics

Keys are written with mode 0600 and never leave their files: nothing here prints, logs or returns one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_broker.errors import CertificateError
from cloud_broker.files import make_private_directory, write_private_file
from cloud_broker.identity import Identity, check_validity, load_certificate, load_key
from protocol.topics import check_name

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
# A clock without a battery lags at boot; a certificate issued "just now" must already be valid on such a board.
_BACKDATE = timedelta(days=1)
# A space cannot stand in a device's name, so no device can be mistaken for the broker.
_BROKER_NAME = "CoDA broker"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class FleetAuthority:
    """Issues the certificates of one fleet; asking again for a name returns what is on disk until it expires."""

    def __init__(self, directory: Path, fleet: str) -> None:
        """Open the authority under ``directory``, or create it there.

        Raises:
            CertificateError: If its files are unusable or belong to another fleet.
            MalformedMessageError: If ``fleet`` is not a name.
        """
        self.directory = directory
        self.fleet = check_name(fleet, "fleet")
        self.ca_file = directory / "ca.crt"
        self._key_file = directory / "ca.key"
        if not self.ca_file.exists():
            self._create()
        self._certificate = load_certificate(self.ca_file)
        self._key = load_key(self._key_file)
        check_validity(self.ca_file, self._certificate)
        if self._key.public_key() != self._certificate.public_key():
            raise CertificateError(f"{self._key_file} is not the key of {self.ca_file}")
        if self._certificate.subject != _authority_name(fleet):
            raise CertificateError(f"{self.ca_file} is the authority of another fleet, not of {fleet!r}")

    def broker(self, host_names: Sequence[str] = ()) -> Identity:
        """The broker's identity, for ``localhost``, the loopback addresses and ``host_names`` (names or addresses)."""
        names = list(dict.fromkeys((*_LOCAL_NAMES, *host_names)))
        identity = self.broker_identity()
        if not _is_current(identity) or _alternative_names(identity.cert_file) != _general_names(names):
            self._issue(identity, _general_names(names))
        return identity

    def broker_identity(self) -> Identity:
        """Where the broker's certificate is, issued or not."""
        return self._identity("broker", self.directory, _BROKER_NAME)

    def cloud_worker(self, name: str) -> Identity:
        """A cloud worker's identity.

        Raises:
            CertificateError: If a device has that name.
        """
        self._refuse_namesake("devices", name)
        return self._enrolled(self._identity(check_name(name, "cloud worker"), self.directory / "cloud", name))

    def device(self, name: str) -> Identity:
        """A device's identity.

        Raises:
            CertificateError: If a cloud worker has that name: the broker would give the device a worker's rights.
        """
        self._refuse_namesake("cloud", name)
        return self._enrolled(self._identity(check_name(name, "device"), self.directory / "devices", name))

    def _refuse_namesake(self, folder: str, name: str) -> None:
        if (self.directory / folder / f"{name}.crt").exists():
            raise CertificateError(f"{name!r} is already a name under {self.directory / folder}: choose another")

    def _identity(self, stem: str, folder: Path, name: str) -> Identity:
        return Identity(name, self.ca_file, folder / f"{stem}.crt", folder / f"{stem}.key")

    def _enrolled(self, identity: Identity) -> Identity:
        if not _is_current(identity):
            self._issue(identity, [])
        return identity

    def _create(self) -> None:
        make_private_directory(self.directory)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _authority_name(self.fleet)
        builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        _write_key(self._key_file, key)
        _write_certificate(self.ca_file, builder.sign(key, hashes.SHA256()))

    def _issue(self, identity: Identity, names: list[x509.GeneralName]) -> None:
        make_private_directory(identity.cert_file.parent)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        builder = _builder(subject, self._certificate.subject, key.public_key(), CERTIFICATE_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer_key, critical=False)
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if names:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        _write_key(identity.key_file, key)
        _write_certificate(identity.cert_file, builder.sign(self._key, hashes.SHA256()))


def _is_current(identity: Identity) -> bool:
    """Whether a certificate is there and usable; an expired one is issued anew, a broken one is reported."""
    if not identity.cert_file.exists():
        return False
    if datetime.now(timezone.utc) > load_certificate(identity.cert_file).not_valid_after_utc:
        return False
    identity.check()
    return True


def _alternative_names(path: Path) -> list[x509.GeneralName]:
    extension = load_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return list(extension.value)


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_name(fleet: str) -> x509.Name:
    attributes = {NameOID.ORGANIZATION_NAME: fleet, NameOID.COMMON_NAME: "CoDA fleet authority"}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
    builder = builder.not_valid_before(now - _BACKDATE).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private_file(path, pem)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    write_private_file(path, certificate.public_bytes(serialization.Encoding.PEM))
