"""Named arrays as bytes: NumPy's .npz without pickle."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from edge.errors import StoreError
from edge.learning.model import Array
from protocol.rows import RowBlock


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """The arrays' bytes, uncompressed: trained weights do not compress."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack_arrays(payload: bytes) -> dict[str, Array]:
    """Inverse of `pack_arrays`.

    Raises:
        StoreError: If the bytes are anything else; objects are never unpickled.
    """
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise StoreError(f"stored arrays of {len(payload)} bytes are damaged: {error}") from error


def pack_rows(block: RowBlock) -> bytes:
    """The bytes of rows of any version."""
    version = np.frombuffer(block.version.encode(), np.uint8)
    return pack_arrays({"version": version, "ids": block.ids, "values": block.values})


def unpack_rows(payload: bytes) -> RowBlock:
    """Inverse of `pack_rows`.

    Raises:
        StoreError: If the bytes are anything else.
    """
    arrays = unpack_arrays(payload)
    if set(arrays) != {"version", "ids", "values"}:
        raise StoreError(f"stored rows of {len(payload)} bytes are damaged: they hold {sorted(arrays)}")
    return RowBlock(bytes(arrays["version"]).decode(), arrays["ids"], arrays["values"])
