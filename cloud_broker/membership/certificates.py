"""A fleet's certificate authority: who has a certificate, and whose was taken back.

    {directory}/ca.crt, ca.key                 the fleet's authority (EC P-256)
    {directory}/issued/, crl.pem               what was issued and taken back, see `cloud_broker.membership.issued`
    {directory}/broker.crt, broker.key         the broker, for the names it is reached by
    {directory}/enrolment/enrolment.crt, .key  the enrolment service, likewise
    {directory}/cloud/{name}.crt, .key         one cloud worker
    {directory}/devices/{name}.crt             one device; its common name is the device's name in topics. Its key is on
                                               the device, or beside it where the device was made here (demo, tests)

Keys are written with mode 0600 and never leave their files: nothing here prints, logs or returns one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_broker.errors import CertificateError
from cloud_broker.files import make_private_directory
from cloud_broker.membership import signing
from cloud_broker.membership.identity import Identity, check_validity, load_certificate, load_key
from cloud_broker.membership.issued import IssuedBook
from hardware.durable import write_private
from protocol.topics import check_name

CERTIFICATE_DAYS = 365
# A space cannot stand in a device's name, so no device can be mistaken for one of these.
_BROKER_NAME, _ENROLMENT_NAME = "CoDA broker", "CoDA enrolment"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# A device of the first name could read every device's blobs' topics as its own; the prefix is for `coda broker check`.
RESERVED_NAMES, RESERVED_PREFIX = frozenset({"blob"}), "coda-check"


class FleetAuthority:
    """Issues the certificates of one fleet; asking again for a name returns what is on disk while it is good."""

    def __init__(self, directory: Path, fleet: str) -> None:
        """Open the authority under ``directory``, or create it there.

        Raises:
            CertificateError: If its files are unusable or belong to another fleet.
            MalformedMessageError: If ``fleet`` is not a name.
        """
        self.directory = directory
        self.fleet = check_name(fleet, "fleet")
        self.ca_file = directory / "ca.crt"
        self._key_file = directory / "ca.key"
        if not self.ca_file.exists():
            self._create()
        self._issuer = signing.Issuer(load_certificate(self.ca_file), load_key(self._key_file))
        check_validity(self.ca_file, self._issuer.certificate)
        if self._issuer.key.public_key() != self._issuer.certificate.public_key():
            raise CertificateError(f"{self._key_file} is not the key of {self.ca_file}")
        if self._issuer.certificate.subject != _authority_name(fleet):
            raise CertificateError(f"{self.ca_file} is the authority of another fleet, not of {fleet!r}")
        self.book = IssuedBook(directory, self._issuer)

    @classmethod
    def open(cls, directory: Path) -> FleetAuthority:
        """Open the authority that is there, whichever fleet's it is.

        Raises:
            CertificateError: If there is none, or its files are unusable.
        """
        if not (directory / "ca.crt").exists():
            raise CertificateError(f"no authority under {directory}: make one with `coda fleet init`")
        subject = load_certificate(directory / "ca.crt").subject
        fleets = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return cls(directory, str(fleets[0].value) if fleets else "")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, in hexadecimal: by it a device knows its fleet."""
        return self._issuer.certificate.fingerprint(hashes.SHA256()).hex()

    def broker(self, host_names: Sequence[str] = ()) -> Identity:
        """The broker's identity, for ``localhost``, the loopback addresses and ``host_names`` (names or addresses)."""
        return self._server(self.broker_identity(), host_names)

    def broker_identity(self) -> Identity:
        """Where the broker's certificate is, issued or not."""
        return self._identity("broker", self.directory, _BROKER_NAME)

    def enrolment(self, host_names: Sequence[str] = ()) -> Identity:
        """The enrolment service's identity, for the same names."""
        return self._server(self._identity("enrolment", self.directory / "enrolment", _ENROLMENT_NAME), host_names)

    def cloud_worker(self, name: str) -> Identity:
        """A cloud worker's identity.

        Raises:
            CertificateError: If a device has that name, or it is reserved.
        """
        self._refuse_name(name, "devices")
        return self._enrolled(self._identity(check_name(name, "cloud worker"), self.directory / "cloud", name))

    def device(self, name: str) -> Identity:
        """A device's identity with a key made here; a device in the field keeps its own, see `sign_request`.

        Raises:
            CertificateError: If a cloud worker has that name (the broker would give the device a worker's rights), or
                the name is reserved.
        """
        self._refuse_name(name, "cloud")
        return self._enrolled(self._identity(check_name(name, "device"), self.directory / "devices", name))

    def sign_request(self, name: str, request_pem: bytes) -> bytes:
        """The certificate, PEM, for a device's own key.

        Args:
            name: The device; who asks has proven to be it.
            request_pem: Its certificate request, PEM.

        Raises:
            CertificateError: If the request is not for that name and signed with its own P-256 key, or the name is a
                cloud worker's or reserved.
        """
        self._refuse_name(name, "cloud")
        public_key = signing.read_request(request_pem, check_name(name, "device"))
        pem = signing.certificate_pem(self._sign(name, public_key))
        make_private_directory(self.directory / "devices")
        write_private(self.directory / "devices" / f"{name}.crt", pem)
        return pem

    @contextmanager
    def temporary(self, name: str, lifetime: timedelta = timedelta(minutes=5)) -> Iterator[Identity]:
        """An identity for a few minutes, on disk only inside the ``with``, to probe or to act in a peer's name."""
        key = signing.new_key()
        certificate = signing.sign_peer(self._issuer, name, key.public_key(), lifetime)
        with tempfile.TemporaryDirectory(prefix="coda-") as folder:  # mode 0700
            identity = self._identity("peer", Path(folder), name)
            write_private(identity.key_file, signing.key_pem(key))
            write_private(identity.cert_file, signing.certificate_pem(certificate))
            yield identity

    def check_device_name(self, name: str) -> None:
        """See that a device may have this name.

        Raises:
            CertificateError: If a cloud worker has it, or it is reserved.
            MalformedMessageError: If it is not a name.
        """
        self._refuse_name(check_name(name, "device"), "cloud")

    def revoked_probe(self) -> Identity:
        """An identity that stands in the revocation list: whoever lets it in does not use the list."""
        identity = self._identity("revoked", self.directory, f"{RESERVED_PREFIX}-revoked")
        if not identity.cert_file.exists():
            self._issue(identity, [])
            self.book.revoke(identity.name)
        return identity

    def own_identities(self) -> list[Identity]:
        """The identities whose keys are kept here for the cloud's own side: broker, enrolment service, workers."""
        servers = [self.broker_identity(), self._identity("enrolment", self.directory / "enrolment", _ENROLMENT_NAME)]
        folder = self.directory / "cloud"
        workers = [self._identity(path.stem, folder, path.stem) for path in sorted(folder.glob("*.crt"))]
        return [identity for identity in (*servers, *workers) if identity.cert_file.exists()]

    def renew(self, identity: Identity) -> None:
        """Give one of the cloud's own identities a new key and certificate, for the same names."""
        certificate = load_certificate(identity.cert_file)
        is_server = identity.name in (_BROKER_NAME, _ENROLMENT_NAME)
        self._issue(identity, signing.alternative_names(certificate) if is_server else [])

    def _refuse_name(self, name: str, folder: str) -> None:
        if (self.directory / folder / f"{name}.crt").exists():
            raise CertificateError(f"{name!r} is already a name under {self.directory / folder}: choose another")
        if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
            raise CertificateError(f"{name!r} is a name that the fleet itself uses: choose another")

    def _identity(self, stem: str, folder: Path, name: str) -> Identity:
        return Identity(name, self.ca_file, folder / f"{stem}.crt", folder / f"{stem}.key")

    def _server(self, identity: Identity, host_names: Sequence[str]) -> Identity:
        names = signing.general_names(list(dict.fromkeys((*_LOCAL_NAMES, *host_names))))
        if not self._is_current(identity) or signing.alternative_names(load_certificate(identity.cert_file)) != names:
            self._issue(identity, names)
        return identity

    def _enrolled(self, identity: Identity) -> Identity:
        if not self._is_current(identity):
            self._issue(identity, [])
        return identity

    def _is_current(self, identity: Identity) -> bool:
        """Whether a certificate is there and good; an expired or revoked one is issued anew, a broken one reported."""
        if not identity.cert_file.exists():
            return False
        certificate = load_certificate(identity.cert_file)
        expired = datetime.now(timezone.utc) > certificate.not_valid_after_utc
        if expired or certificate.serial_number in self.book.revoked_serials():
            return False
        identity.check()
        return True

    def _create(self) -> None:
        make_private_directory(self.directory)
        issuer = signing.new_authority(_authority_name(self.fleet))
        write_private(self._key_file, signing.key_pem(issuer.key))
        write_private(self.ca_file, signing.certificate_pem(issuer.certificate))

    def _issue(self, identity: Identity, names: list[x509.GeneralName]) -> None:
        make_private_directory(identity.cert_file.parent)
        key = signing.new_key()
        certificate = self._sign(identity.name, key.public_key(), names)
        write_private(identity.key_file, signing.key_pem(key))
        write_private(identity.cert_file, signing.certificate_pem(certificate))

    def _sign(
        self, name: str, public_key: ec.EllipticCurvePublicKey, server_names: Sequence[x509.GeneralName] = ()
    ) -> x509.Certificate:
        lifetime = timedelta(days=CERTIFICATE_DAYS)
        certificate = signing.sign_peer(self._issuer, name, public_key, lifetime, server_names)
        self.book.keep(certificate)
        return certificate


def _authority_name(fleet: str) -> x509.Name:
    attributes = {NameOID.ORGANIZATION_NAME: fleet, NameOID.COMMON_NAME: "CoDA fleet authority"}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])
