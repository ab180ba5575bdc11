"""Who a peer is on the tunnel: its certificate, key and authority as files, checked before they are used."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_broker.errors import CertificateError


@dataclass(frozen=True)
class Identity:
    """Who a peer is on the tunnel: where its certificate, its key and its fleet's authority are."""

    name: str
    ca_file: Path
    cert_file: Path
    key_file: Path

    def check(self) -> None:
        """See that the three files can be used together, now.

        Raises:
            CertificateError: If one is unreadable or not PEM, the key is another certificate's, the certificate has
                expired, is not valid yet, or comes from another authority.
        """
        authority, certificate = load_certificate(self.ca_file), load_certificate(self.cert_file)
        for path, loaded in ((self.ca_file, authority), (self.cert_file, certificate)):
            check_validity(path, loaded)
        if load_key(self.key_file).public_key() != certificate.public_key():
            raise CertificateError(f"{self.key_file} is not the key of {self.cert_file}: enrol {self.name} again")
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(f"{self.cert_file} was not issued by {self.ca_file}: enrol it again") from error

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, with this identity shown and the broker's verified.

        Raises:
            CertificateError: As in `check`.
        """
        self.check()
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def refresh(self, context: ssl.SSLContext) -> None:
        """Show the certificate that is on disk now, from the next handshake on; the one before if it cannot be used."""
        with contextlib.suppress(OSError, ValueError):
            context.load_cert_chain(self.cert_file, self.key_file)


def load_certificate(path: Path) -> x509.Certificate:
    """Read a PEM certificate.

    Raises:
        CertificateError: If the file cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot read certificate {path}: {error.strerror}") from error
    except ValueError as error:
        raise CertificateError(f"{path} is not a PEM certificate") from error


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted PEM private key.

    Raises:
        CertificateError: If the file cannot be read or holds no such key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"cannot read key {path}: {error.strerror}") from error
    except (ValueError, TypeError):
        # The cause may quote the file, so it is not chained.
        raise CertificateError(f"{path} is not an unencrypted PEM private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not an elliptic-curve key")
    return key


def check_validity(path: Path, certificate: x509.Certificate) -> None:
    """See that ``certificate``, read from ``path``, is valid now.

    Raises:
        CertificateError: If it has expired or is not valid yet.
    """
    now = datetime.now(timezone.utc)
    if now > certificate.not_valid_after_utc:
        raise CertificateError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: enrol it again")
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}: is the clock right?"
        )
