"""What an image is, and its boot partition with the seed in it: all that can fail without a medium, fails here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import ImageError, SeedError
from hardware.flash.fat import Fat
from hardware.flash.image import ImageDigest, ImageStream
from hardware.flash.partitions import SECTOR_BYTES, Partition, boot_partition

_BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Examined:
    """An image that was read once.

    Attributes:
        image: Its path.
        digest: What it is.
        boot: Its boot partition.
        boot_file: A private copy of that partition, into which the seed goes.
    """

    image: Path
    digest: ImageDigest
    boot: Partition
    boot_file: Path

    @property
    def fat(self) -> Fat:
        """The boot partition's files."""
        return Fat(self.boot_file)


def examine(
    image: Path,
    scratch: Path,
    *,
    expected: str | None,
    most_bytes: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Examined:
    """Read an image once: hash it, and copy its boot partition into ``scratch``, a private folder.

    Args:
        image: Raw or compressed.
        scratch: Where the copy goes; it will hold secrets.
        expected: SHA-256 that the file, or what it unpacks to, must have; None to take what comes.
        most_bytes: Size of the medium.
        progress: Told the bytes of every piece.

    Raises:
        ImageError: If the image is another, is damaged, too large for the medium, or cannot be seeded.
    """
    stream, copy = ImageStream(image), _BootCopy(scratch / "boot.fat")
    read = 0
    try:
        for chunk in stream.chunks():
            copy.take(chunk, read)
            read += len(chunk)
            if most_bytes is not None and read > most_bytes:
                raise ImageError(f"image {image}: unpacks to more than the {most_bytes} bytes of the medium")
            progress(len(chunk))
    finally:
        copy.close()
    digest = stream.digest
    if expected is not None and expected not in (digest.file_sha256, digest.raw_sha256):
        raise ImageError(
            f"image {image}: SHA-256 {digest.file_sha256}, unpacked {digest.raw_sha256}; expected {expected}. "
            "Download it again; nothing was written"
        )
    if digest.raw_bytes % SECTOR_BYTES:
        raise ImageError(f"image {image}: {digest.raw_bytes} bytes are no whole number of sectors: it is cut short")
    return Examined(image, digest, boot_partition(copy.sector, digest.raw_bytes), copy.path)


def seed(examined: Examined, files: Mapping[str, bytes | Path]) -> str:
    """Put files into the copy of the boot partition, read them back, and return the SHA-256 of names and contents.

    Raises:
        SeedError: If they do not fit, or come back otherwise.
    """
    fat, total = examined.fat, hashlib.sha256()
    for name, content in sorted(files.items()):
        fat.write(name, content)
    for name, content in sorted(files.items()):
        digest = hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).hexdigest()
        if hashlib.sha256(fat.read(name)).hexdigest() != digest:
            raise SeedError(f"{name} on the boot partition reads back otherwise than it was written; is there room?")
        total.update(f"{digest}  {name}\n".encode())
    return total.hexdigest()


class _BootCopy:
    """The part of a stream of chunks that is the boot partition, as a sparse file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sector = b""
        self._boot: Partition | None = None
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def take(self, chunk: bytes, at: int) -> None:
        if at == 0:
            self.sector = chunk[:SECTOR_BYTES]
            self._boot = _first_fat(self.sector)
            if self._boot is not None:
                os.ftruncate(self._handle, self._boot.size_bytes)
        if self._boot is None:
            return
        start, end = max(at, self._boot.start_byte), min(at + len(chunk), self._boot.end_byte)
        for block in range(start, end, _BLOCK_BYTES):
            data = chunk[block - at : min(block + _BLOCK_BYTES, end) - at]
            if data.count(0) != len(data):
                os.pwrite(self._handle, data, block - self._boot.start_byte)

    def close(self) -> None:
        os.close(self._handle)


def _first_fat(sector: bytes) -> Partition | None:
    """The boot partition, where the table names one; whether it lies within the image is not known yet."""
    try:
        return boot_partition(sector, image_bytes=1 << 62)
    except ImageError:
        return None
