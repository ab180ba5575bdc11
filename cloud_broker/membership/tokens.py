"""One-time tokens, as the cloud keeps them: a digest of the secret, until when it works, and for which key it did."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cloud_broker.errors import EnrolmentRefusedError, StorageError
from cloud_broker.files import lock_directory, make_private_directory
from hardware.durable import write_private
from protocol.enrolment import SECRET_BYTES
from protocol.topics import check_name

TOKEN_LIFETIME_S = 24 * 3600.0


@dataclass(frozen=True)
class _Kept:
    secret_sha256: str = field(repr=False)
    expires_s: float
    used_for: str | None = None  # SHA-256 of the public key that it was used for


class TokenBook:
    """Tokens under a fleet's ``tokens/``; safe between processes."""

    def __init__(self, directory: Path) -> None:
        """Open the tokens of the fleet in ``directory``."""
        self._directory = directory / "tokens"

    def new(self, device: str, lifetime_s: float = TOKEN_LIFETIME_S) -> bytes:
        """A new secret for ``device``; one given out before no longer works."""
        secret = secrets.token_bytes(SECRET_BYTES)
        make_private_directory(self._directory)
        with lock_directory(self._directory):
            self._write(check_name(device, "device"), _Kept(_digest(secret), time.time() + lifetime_s))
        return secret

    def redeem(self, device: str, secret: bytes, public_key: bytes) -> None:
        """Use a token for a device's public key. With the same key it may be used again: the answer may have been lost.

        Raises:
            EnrolmentRefusedError: If there is no such token, or it has expired or was used for another key. The text
                is the same for all, so that a guesser learns nothing.
        """
        make_private_directory(self._directory)
        with lock_directory(self._directory):
            kept = self._read(check_name(device, "device"))
            key = _digest(public_key)
            known = kept is not None and hmac.compare_digest(kept.secret_sha256, _digest(secret))
            if kept is None or not known or time.time() > kept.expires_s or kept.used_for not in (None, key):
                raise EnrolmentRefusedError(f"the token for {device} is unknown, used or expired: ask for a new one")
            self._write(device, _Kept(kept.secret_sha256, kept.expires_s, key))

    def forget(self, device: str) -> None:
        """Make a token that was given out useless."""
        (self._directory / f"{check_name(device, 'device')}.json").unlink(missing_ok=True)

    def waiting(self) -> list[str]:
        """Devices whose token was not used yet and still works."""
        names = [path.stem for path in sorted(self._directory.glob("*.json"))]
        kept = {name: self._read(name) for name in names}
        return [name for name, one in kept.items() if one and one.used_for is None and one.expires_s > time.time()]

    def _read(self, device: str) -> _Kept | None:
        path = self._directory / f"{device}.json"
        try:
            return _Kept(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise StorageError(f"{path} is damaged: remove it and make a new token") from None

    def _write(self, device: str, kept: _Kept) -> None:
        write_private(self._directory / f"{device}.json", json.dumps(asdict(kept)).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
