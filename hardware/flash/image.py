"""One pass over an operating system image, decompressed on the way, hashed as it is and as it unpacks."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from hardware.errors import ImageError

CHUNK_BYTES = 1 << 20
_ZIP_MAGIC = b"PK\x03\x04"
_XZ_MAGIC, _ZSTD_MAGIC, _GZIP_MAGIC = b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
# A zstd block of a few bytes can unpack to 128 KiB; this much input at a time bounds what one step can yield to 32 MiB.
_ZSTD_STEP_BYTES = 1 << 10
_SUM_FILES = ("SHA256SUMS", "sha256sums.txt", "SHA256SUM")


@dataclass(frozen=True)
class ImageDigest:
    """What an image is.

    Attributes:
        file_sha256: Of the file as it lies on disk, compressed or not.
        raw_sha256: Of what it unpacks to.
        raw_bytes: How much that is.
    """

    file_sha256: str
    raw_sha256: str
    raw_bytes: int


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Hashed(io.RawIOBase):
    """A file that hashes what is read of it, in order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self.sha256.update(data)
        buffer[: len(data)] = data
        return len(data)


class ImageStream:
    """One pass over an image file: `chunks` yields it unpacked, `digest` tells afterwards what it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest: ImageDigest | None = None

    @property
    def digest(self) -> ImageDigest:
        """What was read; only after `chunks` has ended."""
        if self._digest is None:
            raise ValueError(f"{self._path} was not read to its end")
        return self._digest

    def chunks(self) -> Iterator[bytes]:
        """The unpacked image, `CHUNK_BYTES` at a time; only the last piece is shorter.

        Raises:
            ImageError: If the file cannot be read, is of an unknown kind, or is damaged or cut short.
        """
        raw, size = hashlib.sha256(), 0
        try:
            with self._path.open("rb") as file:
                magic = file.read(8)
                file.seek(0)
                hashed = _Hashed(file)
                packed: Any = io.BufferedReader(hashed, CHUNK_BYTES)
                for chunk in _rechunked(_reader(packed, magic, self._path)):
                    raw.update(chunk)
                    size += len(chunk)
                    yield chunk
                while packed.read(CHUNK_BYTES):  # what follows the compressed stream is part of the file's digest
                    pass
        except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError(f"image {self._path}: damaged or cut short ({error}); download it again") from error
        except OSError as error:
            raise ImageError(f"image {self._path}: {error.strerror or error}") from error
        self._digest = ImageDigest(hashed.sha256.hexdigest(), raw.hexdigest(), size)


def expected_sha256(path: Path) -> str | None:
    """The digest that the image's publisher states in a file beside it: ``IMAGE.sha256`` or ``SHA256SUMS``."""
    for candidate in (path.with_name(path.name + ".sha256"), *(path.with_name(name) for name in _SUM_FILES)):
        try:
            lines = candidate.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for words in (line.split() for line in lines[:10_000]):
            named = len(words) == 2 and words[1].lstrip("*") == path.name
            if words and is_sha256(words[0].lower()) and (named or len(words) == 1):
                return words[0].lower()
    return None


def is_sha256(text: str) -> bool:
    """Whether this is a SHA-256 in lower-case hexadecimal."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _reader(file: IO[bytes], magic: bytes, path: Path) -> _Reader:
    if magic.startswith(_XZ_MAGIC):
        return lzma.LZMAFile(file)
    if magic.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(_ZSTD_MAGIC):
        return _ZstdReader(file, path)
    if magic.startswith(_ZIP_MAGIC):
        raise ImageError(f"image {path}: a ZIP archive; unpack it, and name the image in it")
    return file


class _ZstdReader:
    """A zstd file, which may hold several frames. `zstandard`'s own reader is silent about one that was cut short."""

    def __init__(self, file: _Reader, path: Path) -> None:
        try:
            import zstandard  # noqa: PLC0415 - 32-bit ARM has no wheel of it
        except ImportError as error:
            raise ImageError(f"image {path}: install `zstandard` to read it, or unpack it with `zstd -d`") from error
        self._file = file
        self._new: Any = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self._error: type[Exception] = zstandard.ZstdError
        self._frame: Any = self._new()
        self._fed = False

    def read(self, _size: int, /) -> bytes:
        while True:
            packed = self._file.read(_ZSTD_STEP_BYTES)
            if not packed:
                if self._fed:
                    raise EOFError("the last frame has no end")
                return b""
            if data := self._unpack(packed):
                return data

    def _unpack(self, packed: bytes) -> bytes:
        parts = []
        try:
            while packed:
                parts.append(self._frame.decompress(packed))
                packed, self._fed = self._frame.unused_data, not self._frame.eof
                if self._frame.eof:
                    self._frame = self._new()
        except self._error as error:
            raise EOFError(str(error)) from error
        return b"".join(parts)


def _rechunked(reader: _Reader) -> Iterator[bytes]:
    held = bytearray()
    while data := reader.read(CHUNK_BYTES):
        held += data
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)
