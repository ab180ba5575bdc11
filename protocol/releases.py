"""What both sides share about releases of the software: how signed metadata travel, and what may come of a release.

The metadata are The Update Framework's files (theupdateframework.github.io/specification): every root since the first,
the timestamp, and the snapshot and targets that it names. They travel as one blob; what they say is checked by their
signatures and by nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from protocol.errors import MalformedMessageError, OversizeError
from protocol.packing import pack, unpack

INSTALLED = "installed"  # proven, and kept
REFUSED = "refused"  # its metadata do not vouch for it
FAILED = "failed"  # it could not be fetched or installed
INTERRUPTED = "interrupted"  # the device stopped in the middle; it is tried again
ROLLED_BACK = "rolled-back"  # it did not prove itself
INCONCLUSIVE = "inconclusive"  # nobody could have proved what was missing, as the broker was away; it is tried again
OUTCOMES = (INSTALLED, REFUSED, FAILED, INTERRUPTED, ROLLED_BACK, INCONCLUSIVE)
BAD_OUTCOMES = frozenset({REFUSED, FAILED, ROLLED_BACK})

MAX_METADATA_BYTES = 512 << 10
MAX_FILES = 64
_NAME = re.compile(r"timestamp\.json|[1-9][0-9]{0,8}\.(root|snapshot|targets)\.json")


def pack_metadata(files: Mapping[str, bytes]) -> bytes:
    """Metadata files, by name, as one blob.

    Raises:
        MalformedMessageError: If a name is none of metadata, or there are more than `MAX_FILES`.
        OversizeError: If they are larger than `MAX_METADATA_BYTES`.
    """
    packed = pack({"files": _checked(dict(files))})
    if len(packed) > MAX_METADATA_BYTES:
        raise OversizeError("release metadata", len(packed), MAX_METADATA_BYTES)
    return packed


def unpack_metadata(payload: bytes) -> dict[str, bytes]:
    """Inverse of `pack_metadata`.

    Raises:
        MalformedMessageError: If it is anything else.
        OversizeError: If it is larger than `MAX_METADATA_BYTES`.
    """
    if len(payload) > MAX_METADATA_BYTES:
        raise OversizeError("release metadata", len(payload), MAX_METADATA_BYTES)
    files = unpack(payload, "release metadata").get("files")
    if not isinstance(files, dict):
        raise MalformedMessageError("release metadata: no files")
    return _checked(files)


def _checked(files: dict[str, bytes]) -> dict[str, bytes]:
    if len(files) > MAX_FILES:
        raise MalformedMessageError(f"release metadata: {len(files)} files, at most {MAX_FILES} are read")
    for name, content in files.items():
        if not _NAME.fullmatch(name) or not isinstance(content, bytes):
            raise MalformedMessageError(f"release metadata: {name[:80]!r} is not one of The Update Framework's files")
    return files
