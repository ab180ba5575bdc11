"""A device's own key and its certificate request, made by the system's OpenSSL.

A program and not a library: it is on every system that has `ca-certificates`, runs for milliseconds once in months, and
costs the service no memory.
"""

from __future__ import annotations

import shutil
import subprocess

from edge.errors import CertificateError

_TIMEOUT_S = 60.0  # a board that has just booted may wait for randomness


def new_key() -> bytes:
    """A P-256 private key, PEM. Write it to nothing but a private file.

    Raises:
        CertificateError: If OpenSSL is missing or fails.
    """
    return _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def certificate_request(key_pem: bytes, name: str) -> bytes:
    """A certificate request, PEM, for ``name`` (one that can stand in a topic), signed with the key.

    Raises:
        CertificateError: If OpenSSL is missing or fails.
    """
    return _openssl("req", "-new", "-batch", "-key", "/dev/stdin", "-subj", f"/CN={name}", given=key_pem)


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    program = shutil.which("openssl")
    if program is None:
        raise CertificateError("the program openssl is not installed: run `sudo apt-get install openssl`")
    try:
        done = subprocess.run([program, *arguments], input=given, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CertificateError(f"openssl {arguments[0]} failed: {type(error).__name__}") from error
    if done.returncode != 0:
        # Its last line says what is wrong; none of its messages quotes a key.
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CertificateError(f"openssl {arguments[0]} failed: {said[-1] if said else 'it does not say why'}")
    return done.stdout
