"""Joining a fleet, and renewing before the certificate expires. The device's key is made here and never sent.

After joining, the folder holds

    ca.crt          the fleet's authority
    identity.pem    the device's key and certificate in one file, mode 0600, so that both change in one step
    device.toml     a configuration for `coda edge run`; left alone if there is one
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig
from edge.errors import CertificateError, ConfigError, RefusedError, UnreachableError
from edge.tunnel.keys import certificate_request, new_key
from edge.tunnel.tls import device_context
from hardware.durable import write_private
from protocol.enrolment import AUTHORITY_PATH, ENROL_PATH, MAX_BODY_BYTES, RENEW_PATH, EnrolmentToken
from protocol.errors import ProtocolError
from protocol.packing import pack, unpack

_TIMEOUT_S = 20.0
_OK = 200


def enrol(token_text: str, directory: Path) -> Path:
    """Join the fleet that a token names, and return the path of the configuration.

    If it is cut off it can be repeated with the same token: the key is on disk before the token is used.

    Raises:
        MalformedMessageError: If the token is not whole.
        CertificateError: If the service's authority is not the token's.
        RefusedError: If the service refuses the token.
        UnreachableError: If the service cannot be reached.
    """
    token = EnrolmentToken.from_text(token_text)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_file = directory / "ca.crt"
    write_private(ca_file, _authority(token))
    key = _waiting_key(directory / "waiting.key")
    request = certificate_request(key, token.device)
    context = _context(ca_file)
    body = {"device": token.device, "secret": token.secret, "request": request}
    answer = _ask(token.host, token.enrolment_port, context, ENROL_PATH, body)
    _keep(directory / "identity.pem", key, answer, ca_file)
    (directory / "waiting.key").unlink()
    return _write_config(directory / "device.toml", token)


def renew(config: EdgeConfig) -> None:
    """Get a new certificate, for a new key, with the one that is still valid. Connections that live are not touched.

    Raises:
        ConfigError: If the configuration names no enrolment service, or keeps key and certificate in two files.
        RefusedError: If the service refuses.
        CertificateError: If the current certificate is refused, or the new one does not fit.
        UnreachableError: If the service cannot be reached.
    """
    if config.enrolment_port is None or config.cert_file != config.key_file:
        raise ConfigError("renewing needs `enrolment_port`, and one file for `cert_file` and `key_file`: enrol again")
    key = new_key()
    context = device_context(config.ca_file, config.cert_file, config.key_file)
    body = {"request": certificate_request(key, config.device)}
    answer = _ask(config.host, config.enrolment_port, context, RENEW_PATH, body)
    _keep(config.cert_file, key, answer, config.ca_file)


def _authority(token: EnrolmentToken) -> bytes:
    """The authority's certificate, PEM, taken from a stranger only if it is the one that the token names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing secret is sent, and what comes is checked by its digest
    pem = _ask(token.host, token.enrolment_port, context, AUTHORITY_PATH, None).get("authority")
    try:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert((pem or b"").decode())).hexdigest()
    except (ValueError, AttributeError):
        digest = ""
    if not isinstance(pem, bytes) or not hmac.compare_digest(digest, token.authority_sha256):
        raise CertificateError(
            f"{token.host}:{token.enrolment_port} is not the enrolment service of fleet {token.fleet!r}: its authority "
            "is another than the token's. The token was not sent"
        )
    return pem


def _context(ca_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _ask(host: str, port: int, context: ssl.SSLContext, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    # Only here: with its parsers it would cost the service megabytes for as long as it lives.
    from http.client import HTTPException, HTTPSConnection  # noqa: PLC0415

    where = f"enrolment service {host}:{port}"
    connection = HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else pack(body))
        response = connection.getresponse()
        values = unpack(response.read(MAX_BODY_BYTES + 1)[:MAX_BODY_BYTES], "the enrolment service's answer")
    except ssl.SSLError as error:
        raise CertificateError(f"{where}: {getattr(error, 'verify_message', '') or error.reason}") from error
    except (OSError, HTTPException, ProtocolError) as error:
        raise UnreachableError(f"{where}: {error}; does `coda fleet serve` run there?") from error
    finally:
        connection.close()
    if response.status != _OK:
        raise RefusedError("enrolment", str(values.get("error"))[:500])
    return values


def _waiting_key(path: Path) -> bytes:
    """The key of an attempt that was cut off, or a new one that is on disk before it is used."""
    if not path.exists():
        write_private(path, new_key())
    return path.read_bytes()


def _keep(path: Path, key: bytes, answer: dict[str, Any], ca_file: Path) -> None:
    """Write key and certificate, once it is seen that they and the authority go together."""
    certificate = answer.get("certificate")
    if not isinstance(certificate, bytes):
        raise RefusedError("enrolment", "the service's answer holds no certificate")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # mode 0700
        candidate = Path(folder) / path.name
        write_private(candidate, key + certificate)
        device_context(ca_file, candidate, candidate)
    write_private(path, key + certificate)


def starting_config(token: EnrolmentToken) -> dict[str, str | int]:
    """What a new member's ``device.toml`` says, from the token alone."""
    return {
        "device": token.device,
        "fleet": token.fleet,
        "host": token.host,
        "port": token.broker_port,
        "enrolment_port": token.enrolment_port,
        "ca_file": "ca.crt",
        "cert_file": "identity.pem",
        "key_file": "identity.pem",
        "state_dir": "state",
    }


def config_text(values: Mapping[str, object]) -> bytes:
    """A configuration as TOML, mappings as tables. JSON's numbers, booleans and quoted texts are TOML's as well."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in values.items() if name not in tables}
    text = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in plain.items()).encode()
    return text + b"".join(f"[{name}]\n".encode() + config_text(table) for name, table in tables.items())


def _write_config(path: Path, token: EnrolmentToken) -> Path:
    if not path.exists():
        write_private(path, config_text(starting_config(token)))
    return path
