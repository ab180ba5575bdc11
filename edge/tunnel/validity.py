"""From when until when a certificate is valid, read from its DER: no library of the device's parses one.

Only the way to the two dates is followed (RFC 5280, section 4.1); that the certificate is good, TLS checks.
"""

from __future__ import annotations

import calendar
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from edge.errors import CertificateError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEFORE_VALIDITY = 3  # serial number, signature's algorithm, issuer


@dataclass(frozen=True)
class Validity:
    """From when until when a certificate is valid, in seconds since 1970."""

    begins_s: float
    ends_s: float

    def share_left(self, now_s: float) -> float:
        """The share of its life that is left; below 0 once it has expired."""
        return (self.ends_s - now_s) / (self.ends_s - self.begins_s)


def validity(cert_file: Path) -> Validity:
    """When the first certificate of a file is valid.

    Raises:
        CertificateError: If the file cannot be read, or holds no PEM certificate.
    """
    try:
        return _validity(_first_der(cert_file.read_text("ascii")))
    except OSError as error:
        raise CertificateError(
            f"{cert_file}: {error.strerror}; enrol the device, or correct its configuration"
        ) from error
    except ValueError as error:
        raise CertificateError(f"{cert_file}: not a PEM certificate ({error}); enrol the device again") from error


def _first_der(pem: str) -> bytes:
    if (found := _PEM.search(pem)) is None:
        raise ValueError("there is none in it")
    return ssl.PEM_cert_to_DER_cert(found[0])


def _validity(der: bytes) -> Validity:
    certificate = _element(der, _SEQUENCE)[0]
    rest = _element(certificate, _SEQUENCE)[0]
    if rest[:1] == bytes([_VERSION]):
        rest = _element(rest, _VERSION)[1]
    for _ in range(_BEFORE_VALIDITY):
        rest = _element(rest)[1]
    dates = _element(rest, _SEQUENCE)[0]
    begins, after = _date(dates)
    ends, _ = _date(after)
    if ends <= begins:
        raise ValueError("it ends before it begins")
    return Validity(begins, ends)


def _date(der: bytes) -> tuple[float, bytes]:
    """The date that comes first, in seconds since 1970, and what follows it."""
    content, rest = _element(der)
    if der[0] not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise ValueError("no date where one belongs")
    text = content.decode("ascii")
    if der[0] == _UTC_TIME:  # years of two digits, of 1950 to 2049
        text = ("19" if text >= "5" else "20") + text
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))), rest


def _element(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the element that comes first, which is to have the tag, and what follows it."""
    if len(der) < 2 or (tag is not None and der[0] != tag):
        raise ValueError("its DER is not that of a certificate")
    length, begin = der[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(der[2:begin], "big")
    if begin + length > len(der):
        raise ValueError("its DER is cut short")
    return der[begin : begin + length], der[begin + length :]
