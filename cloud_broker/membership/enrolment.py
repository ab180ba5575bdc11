"""The enrolment service: gives a device that has a token its certificate, and one that has a certificate the next.

It is HTTPS on a port of its own and not part of the broker, so that no client without a certificate ever reaches the
broker, and that the authority's key is in a process which is neither the broker nor a worker. Three requests, each one
small msgpack map:

    GET  /v1/authority                                      the authority's certificate; public
    POST /v1/enrol   {device, secret, request}              a certificate, for a token's secret
    POST /v1/renew   {request}                              a certificate, for the certificate shown in TLS
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cloud_broker.errors import BrokerError, CertificateError, EnrolmentRefusedError
from cloud_broker.files import lock_directory
from cloud_broker.membership import signing
from cloud_broker.membership.certificates import FleetAuthority
from cloud_broker.membership.identity import Identity
from cloud_broker.membership.tokens import TokenBook
from cloud_broker.mosquitto.configuration import CERTIFICATES
from protocol.enrolment import AUTHORITY_PATH, ENROL_PATH, MAX_BODY_BYTES, RENEW_PATH
from protocol.errors import ProtocolError
from protocol.packing import pack, unpack

_TIMEOUT_S = 10.0  # for each read of a peer, so that a silent one frees its place
_MAX_PEERS = 32

_REQUEST = ("request", bytes)

logger = logging.getLogger(__name__)


class Enroller:
    """What the service does, without the network."""

    def __init__(self, directory: Path) -> None:
        """Open the authority and the tokens of the fleet in ``directory``."""
        self.authority = FleetAuthority.open(directory / CERTIFICATES)
        self._tokens = TokenBook(directory)

    def enrol(self, values: dict[str, Any]) -> bytes:
        """A certificate, PEM, for a device that proves with a token who it is.

        Raises:
            EnrolmentRefusedError: If the token does not work.
            CertificateError: If its request is not one for that name; the token can still be used.
            ProtocolError: If the request is malformed.
        """
        device, secret, request = (_field(values, *field) for field in (("device", str), ("secret", bytes), _REQUEST))
        key = signing.read_request(request, device).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with lock_directory(self.authority.directory):  # a revocation waits, and so sees what is issued here
            self._tokens.redeem(device, secret, key)
            return self._sign(device, request, "enrolled")

    def renew(self, shown: bytes | None, values: dict[str, Any]) -> bytes:
        """A certificate, PEM, for the device whose certificate (DER) TLS has verified.

        Raises:
            EnrolmentRefusedError: If none was shown, or it was taken back.
            CertificateError: If the request is not for the same name.
            ProtocolError: If the request is malformed.
        """
        certificate = x509.load_der_x509_certificate(shown) if shown else None
        with lock_directory(self.authority.directory):
            if certificate is None or not self.authority.book.is_good(certificate):
                raise EnrolmentRefusedError("this certificate is unknown or was taken back: enrol with a new token")
            return self._sign(signing.common_name(certificate), _field(values, *_REQUEST), "renewed")

    def _sign(self, device: str, request: bytes, what: str) -> bytes:
        pem = self.authority.sign_request(device, request)
        logger.info("%s %s", what, device)
        return pem


def _field(values: dict[str, Any], name: str, kind: type) -> Any:
    if type(values.get(name)) is not kind:
        raise EnrolmentRefusedError(f"the request has no {name}")
    return values[name]


class EnrolmentServer:
    """The service on its port; a context manager."""

    def __init__(self, directory: Path, host: str, port: int, host_names: tuple[str, ...] = ()) -> None:
        """Prepare the service of the fleet in ``directory``.

        Args:
            directory: The fleet's.
            host: Address to listen on.
            port: Port to listen on; 0 for any that is free.
            host_names: Names and addresses by which devices reach it.

        Raises:
            BrokerError: If it cannot listen there.
            CertificateError: If the authority is unusable.
        """
        self.enroller = Enroller(directory)
        identity = self.enroller.authority.enrolment(host_names)
        try:
            self._server = _Server((host, port), self.enroller, identity)
        except OSError as error:
            raise BrokerError(f"cannot listen on {host}:{port}: {error.strerror}; choose another port") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="enrolment", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> EnrolmentServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server_context(identity: Identity) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(identity.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(identity.cert_file, identity.key_file)
    context.verify_mode = ssl.CERT_OPTIONAL  # a device that joins has none yet
    return context


class _ServerContext:
    """TLS as the service speaks it, with the certificate that is on disk.

    A context that handshakes are using must not be changed: OpenSSL has no lock for it. A renewed certificate gets a
    new one.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity, self._lock = identity, threading.Lock()
        self._stamp, self._context = self._files(), _server_context(identity)

    def current(self) -> ssl.SSLContext:
        """For one handshake; the one before where what is on disk cannot be used, as between its two files' writing."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            stamp = self._files()
            if stamp != self._stamp:
                self._context = _server_context(self._identity)
                self._stamp = stamp
        return self._context

    def _files(self) -> list[tuple[int, int]]:
        found = (self._identity.cert_file.stat(), self._identity.key_file.stat())
        return [(one.st_ino, one.st_mtime_ns) for one in found]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a peer that is silent must not hold up the end
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], enroller: Enroller, identity: Identity) -> None:
        self.enroller = enroller
        self._tls = _ServerContext(identity)
        self._places = threading.BoundedSemaphore(_MAX_PEERS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(_TIMEOUT_S)
            # Here and not on accepting: a peer that does not finish its handshake holds up itself alone.
            channel = self._tls.current().wrap_socket(request, server_side=True)
        except (OSError, ValueError) as error:
            logger.warning("%s: %s", client_address[0], error)
            self.shutdown_request(request)
        else:
            super().process_request_thread(channel, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.warning("%s: the conversation broke off", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    connection: ssl.SSLSocket
    server_version, sys_version = "coda", ""

    def do_GET(self) -> None:
        if self.path != AUTHORITY_PATH:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "nothing is here"})
            return
        self._answer(HTTPStatus.OK, {"authority": self.server.enroller.authority.ca_file.read_bytes()})

    def do_POST(self) -> None:
        try:
            certificate = self._certificate()
        except (EnrolmentRefusedError, CertificateError, ProtocolError) as error:
            logger.warning("refused %s of %s: %s", self.path, self.client_address[0], error)
            self._answer(HTTPStatus.FORBIDDEN, {"error": str(error)[:500]})
        except Exception:
            logger.exception("failed %s of %s", self.path, self.client_address[0])
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the service failed; see its log"})
        else:
            self._answer(HTTPStatus.OK, {"certificate": certificate})

    def _certificate(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise EnrolmentRefusedError(f"a body of at most {MAX_BODY_BYTES} bytes is required")
        values = unpack(self.rfile.read(int(length)), "enrolment")
        if self.path == ENROL_PATH:
            return self.server.enroller.enrol(values)
        if self.path == RENEW_PATH:
            return self.server.enroller.renew(self.connection.getpeercert(binary_form=True), values)
        raise EnrolmentRefusedError("nothing is here")

    def _answer(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        body = pack(values)
        self.send_response(status)
        self.send_header("Content-Type", "application/msgpack")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        logger.debug("%s: " + format, self.client_address[0], *args)
