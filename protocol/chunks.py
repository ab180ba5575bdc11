"""A blob cut into chunks: how many, which bytes each has, which of them are here, and whether the whole is sound."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from protocol.errors import IntegrityError, MalformedMessageError
from protocol.messages import BlobRef, Chunk, Collect, Piece
from protocol.topics import CHUNK_BYTES

Blob = bytes | bytearray | memoryview


def chunk_count(size_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Chunks of a blob of that size."""
    return -(-size_bytes // chunk_bytes)


def blob_ref(blob: Blob) -> BlobRef:
    """A blob's name and size."""
    return BlobRef(hashlib.sha256(blob).hexdigest(), len(blob))


def chunk_of(blob: Blob, sha256: str, index: int, chunk_bytes: int = CHUNK_BYTES) -> Chunk:
    """The chunk of a blob that a `Pull` asks for.

    Raises:
        MalformedMessageError: If the blob has no such chunk.
    """
    count = chunk_count(len(blob), chunk_bytes)
    if not 0 <= index < count:
        raise MalformedMessageError(f"blob {sha256[:12]}: no chunk {index}, it has {count}")
    data = bytes(blob[index * chunk_bytes : (index + 1) * chunk_bytes])
    return Chunk(sha256, index, zlib.crc32(data), data, chunk_bytes)


def pieces_of(blob: Blob, collect: Collect) -> list[Piece]:
    """The pieces that a `Collect` asks for.

    Raises:
        MalformedMessageError: If the blob has no such pieces.
    """
    chunks = (chunk_of(blob, collect.blob, index, collect.chunk_bytes) for index in collect.chunks)
    return [Piece(one.blob, one.index, one.crc32, one.data, one.chunk_bytes) for one in chunks]


def verify(blob: Blob, ref: BlobRef) -> None:
    """Check that a blob has arrived whole.

    Raises:
        IntegrityError: If its size or SHA-256 is another. What was fetched is then of no use: start with an empty
            bitmap.
    """
    digest = hashlib.sha256(blob).hexdigest()
    if len(blob) != ref.size_bytes or digest != ref.sha256:
        raise IntegrityError(
            f"blob {ref.sha256[:12]} of {ref.size_bytes} bytes: got {len(blob)} bytes with SHA-256 {digest[:12]}"
        )


class Bitmap:
    """Which chunks of a blob are here.

    Args:
        size: Chunks of the blob.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._bits = bytearray(-(-size // 8))

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> Bitmap:
        """Inverse of `to_bytes`.

        Raises:
            MalformedMessageError: If the bytes are not a bitmap of ``size`` chunks.
        """
        bitmap = cls(size)
        if len(data) != len(bitmap._bits) or int.from_bytes(data, "little") >> size:
            raise MalformedMessageError(f"bitmap: {len(data)} bytes do not say which of {size} chunks are here")
        bitmap._bits[:] = data
        return bitmap

    def recut(self, size_bytes: int, old_chunk_bytes: int, new_chunk_bytes: int) -> Bitmap:
        """What is here of a blob of ``size_bytes`` where it is cut by another chunk size.

        Smaller chunks lose nothing; a larger one is here where all of its parts are.
        """
        if old_chunk_bytes == new_chunk_bytes:
            return self
        recut = Bitmap(chunk_count(size_bytes, new_chunk_bytes))
        for index in range(recut.size):
            begin, end = index * new_chunk_bytes, min((index + 1) * new_chunk_bytes, size_bytes)
            if all(part in self for part in range(begin // old_chunk_bytes, chunk_count(end, old_chunk_bytes))):
                recut.add(index)
        return recut

    def to_bytes(self) -> bytes:
        """One bit a chunk, the first in the lowest bit of the first byte."""
        return bytes(self._bits)

    def add(self, index: int) -> None:
        """Mark a chunk as here."""
        if not 0 <= index < self.size:
            raise IndexError(f"chunk {index} of {self.size}")
        self._bits[index // 8] |= 1 << index % 8

    def missing(self) -> Iterator[int]:
        """The chunks that are not here, in order."""
        return (index for index in range(self.size) if index not in self)

    @property
    def count(self) -> int:
        """Chunks that are here."""
        return int.from_bytes(self._bits, "little").bit_count()

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.size and bool(self._bits[index // 8] >> index % 8 & 1)
