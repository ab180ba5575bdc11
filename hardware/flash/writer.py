"""All but sector 0, read back and compared, then sector 0: a medium that was cut off has no partition table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import WriteError
from hardware.flash.image import CHUNK_BYTES, ImageStream
from hardware.flash.partitions import SECTOR_BYTES, Partition
from hardware.flash.prepare import Examined
from hardware.flash.target import Target

# Without it the kernel would take gigabytes into memory, and a broken card be found out at the end.
_SYNC_EVERY_BYTES = 64 << 20
_NO_TABLE = bytes(SECTOR_BYTES)

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Written:
    """What is on the medium now.

    Attributes:
        sha256: Of all bytes, seed included, as they were written and read back.
        size_bytes: How many.
    """

    sha256: str
    size_bytes: int


def write(target: Target, examined: Examined, progress: Progress = lambda _step, _bytes: None) -> Written:
    """Write an examined and seeded image, and see that it is there. Sector 0 comes last.

    Args:
        target: The medium; what it held is lost from the first write on.
        examined: The image; its boot partition is taken from the seeded copy.
        progress: Told ``write`` or ``verify`` and the bytes of every piece.

    Raises:
        WriteError: If the image changed since it was examined, a write fails, or something else is read back. The
            medium has no partition table then.
    """
    if examined.digest.raw_bytes > target.size_bytes:
        raise WriteError(f"the image has {examined.digest.raw_bytes} bytes, the medium {target.size_bytes}")
    try:
        return _write(target, examined, progress)
    except OSError as error:
        raise WriteError(f"the medium failed: {error.strerror or error}; it does not boot. Try another card") from error


def _write(target: Target, examined: Examined, progress: Progress) -> Written:
    target.write(0, _NO_TABLE)
    target.sync()
    stream, whole, pieces = ImageStream(examined.image), hashlib.sha256(), []
    sector, at, unsynced = b"", 0, 0
    for chunk in _with_boot(stream.chunks(), examined.boot, examined.boot_file):
        whole.update(chunk)
        if at == 0:
            sector, chunk = chunk[:SECTOR_BYTES], _NO_TABLE + chunk[SECTOR_BYTES:]  # noqa: PLW2901 - from here on it is held back
        pieces.append(hashlib.sha256(chunk).digest())
        target.write(at, chunk)
        at, unsynced = at + len(chunk), unsynced + len(chunk)
        if unsynced >= _SYNC_EVERY_BYTES:
            target.sync()
            unsynced = 0
        progress("write", len(chunk))
    if stream.digest != examined.digest:
        raise WriteError(f"image {examined.image} changed while it was read; the medium does not boot. Begin again")
    target.sync()
    _verify(target, pieces, at, progress)
    _write_table(target, sector)
    return Written(whole.hexdigest(), at)


def _with_boot(chunks: Iterable[bytes], boot: Partition, boot_file: Path) -> Iterator[bytes]:
    """The image's chunks, with the seeded copy of the boot partition in place of the image's own."""
    at = 0
    with boot_file.open("rb") as seeded:
        for chunk in chunks:
            start, end = max(at, boot.start_byte), min(at + len(chunk), boot.end_byte)
            if start < end:
                seeded.seek(start - boot.start_byte)
                yield chunk[: start - at] + seeded.read(end - start) + chunk[end - at :]
            else:
                yield chunk
            at += len(chunk)


def _verify(target: Target, pieces: list[bytes], size: int, progress: Progress) -> None:
    for number, digest in enumerate(pieces):
        at = number * CHUNK_BYTES
        length = min(CHUNK_BYTES, size - at)
        if hashlib.sha256(target.read(at, length)).digest() != digest:
            raise WriteError(
                f"bytes {at} to {at + length} read back otherwise than they were written; the medium does not boot. "
                "It is worn out, or smaller than it says: take another"
            )
        progress("verify", length)


def _write_table(target: Target, sector: bytes) -> None:
    """Sector 0, which makes the medium boot; if it does not hold, zeros again."""
    target.write(0, sector)
    target.sync()
    if target.read(0, SECTOR_BYTES) != sector:
        target.write(0, _NO_TABLE)
        target.sync()
        raise WriteError("sector 0 reads back otherwise than it was written; the medium does not boot. Take another")
