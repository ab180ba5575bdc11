"""The device's side of TLS: its certificate shown, the broker's checked, and faults told apart."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

from edge.config import EdgeConfig
from edge.errors import CertificateError


def device_context(ca_file: Path, cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with a certificate on both sides.

    Raises:
        CertificateError: If a file cannot be read, is not PEM, or the key is not the certificate's.
    """
    for path in (ca_file, cert_file, key_file):
        try:
            path.open("rb").close()
        except OSError as error:
            raise CertificateError(
                f"{path}: {error.strerror}; enrol the device, or correct its configuration"
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the broker's name and certificate
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise CertificateError(f"{ca_file}: not a PEM certificate") from error
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(f"{cert_file} and {key_file}: not a PEM certificate and its unencrypted key") from error
    return context


def use_newest(context: ssl.SSLContext, config: EdgeConfig) -> None:
    """Show the certificate that is on disk now, from the next handshake on; the one before if it cannot be used."""
    with contextlib.suppress(OSError, ValueError):
        context.load_cert_chain(config.cert_file, config.key_file, password=_no_password)


def answers(host: str, port: int, timeout_s: float) -> bool:
    """Whether somebody speaks TLS there, whoever it is and whatever they think of us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout_s) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return not isinstance(error, ssl.SSLEOFError)  # refused: somebody did answer
    except OSError:
        return False


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # without this, OpenSSL would ask on the terminal


def refusal_of_certificate(fault: Exception | None) -> str | None:
    """Whose certificate was refused, and why, if that is what broke the connection; else None."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {fault.verify_message}"
    reason = str(getattr(fault, "reason", "") or "") if isinstance(fault, ssl.SSLError) else ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return f"the broker refuses this device's certificate: {reason.lower().replace('_', ' ')}"
    return None
