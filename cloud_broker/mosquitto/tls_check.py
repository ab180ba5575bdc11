"""Whom a broker lets in by TLS: tried with certificates that it must refuse."""

from __future__ import annotations

import socket
import ssl
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that the tunnel needs.

    Attributes:
        name: What.
        ok: Whether the broker does it.
        detail: What was seen, and what to do if it is missing.
    """

    name: str
    ok: bool
    detail: str


def check_tls(host: str, port: int, authority: FleetAuthority, member: Identity) -> Iterator[Finding]:
    """Try to get in with a good certificate, with old TLS, with none, with a stranger's, with one taken back."""
    version = _enters(host, port, member.client_context())
    yield Finding("tls", version.startswith("TLSv1."), version)
    yield _must_fail("old tls", _enters(host, port, _old(member)), "set its lowest version to TLS 1.2")
    nobody = ssl.create_default_context(cafile=str(authority.ca_file))
    yield _must_fail("no certificate", _enters_1_2(host, port, nobody), "make it require a client certificate")
    with tempfile.TemporaryDirectory(prefix="coda-") as folder:
        forged = FleetAuthority(Path(folder), authority.fleet).device("forged")
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        context.load_cert_chain(forged.cert_file, forged.key_file)
        yield _must_fail("a stranger's certificate", _enters_1_2(host, port, context), "let it trust the fleet's alone")
    revoked = authority.revoked_probe().client_context()
    yield _must_fail("a revoked certificate", _enters_1_2(host, port, revoked), "give it crl.pem, and reload it")


def _must_fail(name: str, entered: str, advice: str) -> Finding:
    let_in = entered.startswith("TLSv1")
    return Finding(name, not let_in, f"let in: {advice}" if let_in else f"refused ({entered})")


def _enters(host: str, port: int, context: ssl.SSLContext) -> str:
    """The TLS version spoken, or why there is no connection."""
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as channel,
        ):
            return channel.version() or "no version"
    except ssl.SSLError as error:
        return (error.reason or "refused").lower().replace("_", " ")
    except OSError as error:
        return str(error)


def _enters_1_2(host: str, port: int, context: ssl.SSLContext) -> str:
    """As `_enters`; in TLS 1.2, unlike in 1.3, a refusal ends the handshake."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return _enters(host, port, context)


def _old(member: Identity) -> ssl.SSLContext:
    context = member.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or this side would not speak it either
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context
