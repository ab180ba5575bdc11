"""X.509 as a fleet uses it: an authority, certificates of peers, the list of those taken back. No files here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_broker.errors import CertificateError

AUTHORITY_DAYS = 3650
# A clock without a battery lags at boot; a certificate issued "just now" must already be valid on such a board.
BACKDATE = timedelta(days=1)
# A CRL's time counts in seconds, and a reader that holds two takes the later.
_CRL_STEP = timedelta(seconds=1)
_MAX_REQUEST_BYTES = 8 << 10


@dataclass(frozen=True)
class Issuer:
    """An authority's certificate and key. Its repr shows no key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Issuer({self.certificate.subject.rfc4514_string()!r}, key=***)"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key: 32-bit boards sign with it in milliseconds, and every TLS library has it."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS 8; write it to nothing but a private file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def new_authority(subject: x509.Name) -> Issuer:
    """A self-signed authority that may sign certificates of peers and its own CRL, and no further authorities."""
    key = new_key()
    builder = _builder(subject, subject, key.public_key(), timedelta(days=AUTHORITY_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return Issuer(builder.sign(key, hashes.SHA256()), key)


def sign_peer(
    issuer: Issuer,
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    server_names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """A certificate for a client and, where it has ``server_names``, for a server of those names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.certificate.subject, public_key, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(_issuer_key(issuer), critical=False)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if server_names:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(server_names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def read_request(request_pem: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request; nothing else that it says is taken over.

    Raises:
        CertificateError: If it is not a request for ``name``, signed with its own P-256 key.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem[:_MAX_REQUEST_BYTES])
        key, signed = request.public_key(), request.is_signature_valid
        names = [attribute.value for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception:
        # Parsing a stranger's ASN.1 can fail in many ways, and what it quotes is the stranger's.
        raise CertificateError("not a PEM certificate request") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the certificate request's key is not a P-256 key")
    if not signed:
        raise CertificateError("the certificate request is not signed with its own key")
    if names != [name]:
        raise CertificateError(f"the certificate request is not for {name!r}")
    return key


def sign_crl(
    issuer: Issuer, serials: Iterable[int], previous: x509.CertificateRevocationList | None
) -> x509.CertificateRevocationList:
    """The list of certificates taken back: those of ``previous`` and ``serials``.

    It is valid as long as the authority. Brokers refuse everyone once their list is out of date, and an operator who
    forgets a fleet for a month must not lose it; a shorter life would only help where a list never arrives.
    """
    now = datetime.now(timezone.utc)
    issued = now - BACKDATE if previous is None else max(previous.last_update_utc + _CRL_STEP, now - BACKDATE)
    builder = x509.CertificateRevocationListBuilder(
        issuer.certificate.subject, issued, issuer.certificate.not_valid_after_utc
    )
    known = {entry.serial_number: entry.revocation_date_utc for entry in previous or ()}
    for serial, revoked in {**dict.fromkeys(serials, now), **known}.items():
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, revoked).build())
    builder = builder.add_extension(x509.CRLNumber(_crl_number(previous) + 1), critical=False)
    return builder.add_extension(_issuer_key(issuer), critical=False).sign(issuer.key, hashes.SHA256())


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Host names and addresses, as certificates hold them."""
    return [_general_name(name) for name in names]


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The host names and addresses of a server's certificate."""
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def common_name(certificate: x509.Certificate) -> str:
    """Whose certificate it is."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _crl_number(previous: x509.CertificateRevocationList | None) -> int:
    return 0 if previous is None else previous.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _issuer_key(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
    builder = builder.not_valid_before(min(now, now + lifetime) - BACKDATE).not_valid_after(now + lifetime)
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
