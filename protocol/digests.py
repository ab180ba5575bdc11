"""SHA-256 digests as text."""

from __future__ import annotations

import re

from protocol.errors import MalformedMessageError

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_sha256(text: str, what: str) -> None:
    """Make sure that ``text`` is a digest.

    Raises:
        MalformedMessageError: If it is not; ``what`` says where it stood.
    """
    if not _SHA256.fullmatch(text):
        raise MalformedMessageError(f"{what}: a SHA-256 in 64 lower-case hexadecimal digits, got {text[:80]!r}")
