"""When certificates are valid, as read without a library for them."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import CertificateError
from edge.tunnel.validity import validity

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n" * 60)] * 4)  # longer than a length of one byte


def _certificate(begins: datetime, ends: datetime) -> x509.Certificate:
    made = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 7, begins, ends)
    return made.sign(KEY, hashes.SHA256())


BEGINS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
DER = _certificate(BEGINS, BEGINS + timedelta(days=90)).public_bytes(serialization.Encoding.DER)


def _pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


@settings(max_examples=50)
@given(
    st.datetimes(datetime(1951, 1, 1), datetime(2090, 1, 1)), st.timedeltas(timedelta(seconds=1), timedelta(days=9000))
)
def test_the_dates_are_what_was_signed(
    tmp_path_factory: pytest.TempPathFactory, begins: datetime, life: timedelta
) -> None:
    """On either side of 2050, where a certificate's way to write a year changes; of a chain, the first."""
    begins = begins.replace(microsecond=0, tzinfo=timezone.utc)
    ends = (begins + life).replace(microsecond=0)
    path = tmp_path_factory.mktemp("certificate") / "one.crt"
    path.write_bytes(_certificate(begins, ends).public_bytes(serialization.Encoding.PEM) + _pem(DER))
    found = validity(path)
    assert (found.begins_s, found.ends_s) == (begins.timestamp(), ends.timestamp())
    assert found.share_left(ends.timestamp()) == 0


@settings(max_examples=100)
@given(st.data())
def test_damaged_ones_are_told(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is cut off or changed, there are dates or there is an error that names the file."""
    path = tmp_path_factory.mktemp("certificate") / "bad.crt"
    changed = bytearray(DER[: data.draw(st.integers(0, len(DER)))])
    for _ in range(data.draw(st.integers(0, 4)) if changed else 0):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(_pem(bytes(changed)))
    try:
        found = validity(path)
    except CertificateError as error:
        told = str(error)
    else:
        told = "bad.crt" if found.begins_s < found.ends_s else ""
    assert "bad.crt" in told


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff\xfe", _pem(b""), _pem(DER).replace(b"M", b"*")])
def test_what_is_no_certificate_is_told(tmp_path: Path, content: bytes) -> None:
    """With the file's name, as is one that is absent."""
    path = tmp_path / "none.crt"
    with pytest.raises(CertificateError, match=r"none\.crt: No such file"):
        validity(path)
    path.write_bytes(content)
    with pytest.raises(CertificateError, match=r"none\.crt: not a PEM certificate"):
        validity(path)
