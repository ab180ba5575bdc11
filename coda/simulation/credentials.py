"""Certificates for simulated devices: one key for all, certificates of an hour, made in memory, in no book."""

from __future__ import annotations

import ssl
import tempfile
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from cloud_broker.membership import signing
from cloud_broker.membership.identity import load_certificate, load_key
from cloud_broker.mosquitto.configuration import CERTIFICATES
from hardware.durable import write_private

PREFIX = "sim-"
_LIFETIME = timedelta(hours=2)


class Credentials:
    """Lets simulated devices into a fleet; a context manager, because what TLS reads are files.

    Attributes:
        fleet: The fleet's name.
        host: The broker's, as its certificate has it.
        port: The broker's.
    """

    def __init__(self, directory: Path, fleet: str, host: str, port: int) -> None:
        """Prepare.

        Args:
            directory: The fleet's, with its authority.
            fleet: Its name.
            host: The broker's name or address.
            port: The broker's port.

        Raises:
            CertificateError: If there is no authority whose key can be read.
        """
        self.fleet, self.host, self.port = fleet, host, port
        folder = directory / CERTIFICATES
        self._issuer = signing.Issuer(load_certificate(folder / "ca.crt"), load_key(folder / "ca.key"))
        self._key = signing.new_key()
        self._folder = tempfile.TemporaryDirectory(prefix="coda-simulate-")  # mode 0700
        self._key_file = Path(self._folder.name) / "key"
        write_private(self._key_file, signing.key_pem(self._key))
        self._context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def context_for(self, name: str) -> ssl.SSLContext:
        """A context with which a device connects; of the next name's only after it was used to wrap a socket."""
        certificate = signing.sign_peer(self._issuer, name, self._key.public_key(), _LIFETIME)
        file = Path(self._folder.name) / "certificate"
        file.write_bytes(signing.certificate_pem(certificate))
        self._context.load_cert_chain(file, self._key_file)
        return self._context

    def __enter__(self) -> Credentials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()
