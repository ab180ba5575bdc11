"""The keys that sign releases: Ed25519, each a file that its owner alone reads. A private key is never printed."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from cloud_broker.errors import ReleaseError
from cloud_broker.files import make_private_directory
from hardware.durable import write_private
from protocol.topics import check_name


def new_key(folder: Path, name: str) -> CryptoSigner:
    """Make a key and keep it in ``folder``.

    Raises:
        ReleaseError: If there is one of that name: a key is not overwritten.
    """
    path = key_path(make_private_directory(folder), name)
    if path.exists():
        raise ReleaseError(f"key {path} is there already; move it away first")
    signer = CryptoSigner.generate_ed25519()
    write_private(path, signer.private_bytes)
    return signer


def load_key(path: Path) -> CryptoSigner:
    """Read a key.

    Raises:
        ReleaseError: If it cannot be read, is none, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ReleaseError(f"key {path} can be read by others: run chmod 600 {path}, and think about replacing it")
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ReleaseError(f"key {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ReleaseError(f"key {path} is no private key in PEM without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"key {path} is not Ed25519, which devices can check without further libraries")
    return CryptoSigner(key)


def key_path(folder: Path, name: str) -> Path:
    """Where a key lies."""
    return folder / f"{check_name(name, 'key')}.key"
