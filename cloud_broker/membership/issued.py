"""Every certificate that an authority issued, and the list of those it took back.

What cannot be found cannot be taken back, so a certificate is on disk here before it is handed out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cloud_broker.errors import CertificateError
from cloud_broker.files import lock_directory, make_private_directory
from cloud_broker.membership import signing
from cloud_broker.membership.identity import Identity, load_certificate
from hardware.durable import write_private


@dataclass(frozen=True)
class Issued:
    """One name's newest certificate."""

    name: str
    serial: int
    expires: datetime
    revoked: bool


class IssuedBook:
    """``{directory}/issued/{name}/{serial}.crt`` and ``{directory}/crl.pem``; safe between processes."""

    def __init__(self, directory: Path, issuer: signing.Issuer) -> None:
        """Open the book, or begin one."""
        self._directory = directory
        self._issuer = issuer
        self.crl_file = directory / "crl.pem"
        if not self.crl_file.exists():
            self._write_crl([])

    def keep(self, certificate: x509.Certificate) -> None:
        """Note a certificate; do so before it is handed out."""
        path = self._path(certificate)
        make_private_directory(path.parent)
        write_private(path, signing.certificate_pem(certificate))

    def newest(self) -> list[Issued]:
        """Every name's newest certificate, by name."""
        revoked = self.revoked_serials()
        folders = sorted((self._directory / "issued").glob("*"))
        return [_issued(_newest(self._of(folder.name), revoked), revoked) for folder in folders]

    def revoke(self, name: str, also: Identity | None = None) -> int:
        """Take back every certificate of ``name`` that has not expired.

        Args:
            name: A device, or a cloud worker.
            also: A temporary identity to take back with it, by which to see that the list is in force.

        Returns:
            How many were taken back now; 0 if all were before.

        Raises:
            CertificateError: If nothing was ever issued to that name.
        """
        with lock_directory(self._directory):
            certificates = self._of(name)
            if not certificates:
                raise CertificateError(f"nothing was ever issued to {name!r}: see who has what with `coda fleet list`")
            now = datetime.now(timezone.utc)
            current = {one.serial_number for one in certificates if _expiry(one) > now}
            serials = sorted(current - self.revoked_serials())
            extra = [load_certificate(also.cert_file).serial_number] if also else []
            self._write_crl([*serials, *extra])
        return len(serials)

    def is_good(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is in the book, byte for byte, and not taken back."""
        path = self._path(certificate)
        known = path.exists() and path.read_bytes() == signing.certificate_pem(certificate)
        return known and certificate.serial_number not in self.revoked_serials()

    def revoked_serials(self) -> set[int]:
        """Serial numbers of the certificates taken back."""
        return {entry.serial_number for entry in self._read_crl() or ()}

    def _of(self, name: str) -> list[x509.Certificate]:
        return [load_certificate(path) for path in sorted((self._directory / "issued" / name).glob("*.crt"))]

    def _path(self, certificate: x509.Certificate) -> Path:
        folder = self._directory / "issued" / signing.common_name(certificate)
        return folder / f"{certificate.serial_number:x}.crt"

    def _read_crl(self) -> x509.CertificateRevocationList | None:
        if not self.crl_file.exists():
            return None
        try:
            return x509.load_pem_x509_crl(self.crl_file.read_bytes())
        except ValueError as error:
            raise CertificateError(f"{self.crl_file} is not a PEM revocation list") from error

    def _write_crl(self, serials: Sequence[int]) -> None:
        crl = signing.sign_crl(self._issuer, serials, self._read_crl())
        write_private(self.crl_file, crl.public_bytes(serialization.Encoding.PEM))


def _expiry(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


def _newest(certificates: list[x509.Certificate], revoked: set[int]) -> x509.Certificate:
    """The last to expire of those that are good; of all, if none is."""
    good = [one for one in certificates if one.serial_number not in revoked]
    return max(good or certificates, key=_expiry)


def _issued(certificate: x509.Certificate, revoked: set[int]) -> Issued:
    serial = certificate.serial_number
    return Issued(signing.common_name(certificate), serial, _expiry(certificate), serial in revoked)
