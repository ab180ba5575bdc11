"""How a device joins its fleet: the token that an operator hands over, and the paths and bounds of the exchange.

The token names the enrolment service, the fleet's authority by its SHA-256, and a secret that works once. A device
first asks for the authority's certificate over a connection that it does not trust, takes it only if its digest is the
token's, and from then on trusts that authority alone; only then does the secret leave the device.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from protocol.digests import check_sha256
from protocol.errors import MalformedMessageError, ProtocolError
from protocol.packing import pack, unpack
from protocol.topics import check_name

AUTHORITY_PATH, ENROL_PATH, RENEW_PATH = "/v1/authority", "/v1/enrol", "/v1/renew"
MAX_BODY_BYTES = 16 << 10
# A certificate is renewed when less than this share of its life is left: who is often offline must come by in time.
RENEW_BELOW = 1 / 3
SECRET_BYTES = 32
_PREFIX = "coda1."
_MAX_TEXT = 1024
_MAX_HOST = 253


@dataclass(frozen=True)
class EnrolmentToken:
    """What a device needs to join. Its repr hides the secret; `to_text` is for the operator's eyes alone.

    Attributes:
        fleet: The fleet.
        device: The name that the device will have.
        host: Name or address of the broker and of the enrolment service.
        broker_port: The broker's port.
        enrolment_port: The enrolment service's port.
        authority_sha256: Digest of the authority's certificate, DER.
        secret: Proves that whoever has it may join under that name, once.
    """

    fleet: str
    device: str
    host: str
    broker_port: int
    enrolment_port: int
    authority_sha256: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_name(self.fleet, "token: fleet")
        check_name(self.device, "token: device")
        check_sha256(self.authority_sha256, "token: authority")
        if not 1 <= len(self.host) <= _MAX_HOST or not self.host.isprintable() or set(self.host) & set(" /\\\"'"):
            raise MalformedMessageError(f"token: host {self.host[:80]!r} is not a name or an address")
        for port in (self.broker_port, self.enrolment_port):
            if not 1 <= port <= 65535:
                raise MalformedMessageError(f"token: port {port} is not in 1..65535")
        if len(self.secret) != SECRET_BYTES:
            raise MalformedMessageError(f"token: the secret must be {SECRET_BYTES} bytes")

    def to_text(self) -> str:
        """The token as one word, with a check against typing errors."""
        body = pack(dict(vars(self)))
        return _PREFIX + base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> EnrolmentToken:
        """Read a token.

        Raises:
            MalformedMessageError: If it is not a whole token. The message never repeats it.
        """
        text = text.strip()
        if not text.startswith(_PREFIX) or len(text) > _MAX_TEXT:
            raise MalformedMessageError(f"not an enrolment token: one begins with {_PREFIX!r}")
        data = text[len(_PREFIX) :]
        try:
            raw = base64.b64decode(data + "=" * (-len(data) % 4), altchars=b"-_", validate=True)
            values = unpack(raw[_CHECK_BYTES:], "token")
        except (binascii.Error, ValueError, ProtocolError):
            raise MalformedMessageError("the enrolment token is damaged: copy it whole") from None
        hints = {name: bytes if name == "secret" else int if name.endswith("_port") else str for name in _FIELDS}
        whole = raw[:_CHECK_BYTES] == _check(raw[_CHECK_BYTES:]) and set(values) == set(hints)
        if not whole or any(type(values[name]) is not kind for name, kind in hints.items()):
            raise MalformedMessageError("the enrolment token is damaged: copy it whole")
        return cls(**values)


_FIELDS = tuple(EnrolmentToken.__dataclass_fields__)
_CHECK_BYTES = 4


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]
