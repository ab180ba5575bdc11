"""The partition table in an image's first sector (MBR), as Raspberry Pi OS and Ubuntu's Pi images have it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hardware.errors import ImageError

SECTOR_BYTES = 512
_TABLE_AT, _ENTRY_BYTES, _ENTRIES = 446, 16, 4
_SIGNATURE = b"\x55\xaa"
_FAT_KINDS = frozenset({0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E})
_PROTECTIVE = 0xEE


@dataclass(frozen=True)
class Partition:
    """A primary partition.

    Attributes:
        number: 1 to 4.
        kind: Its type byte.
        start_byte: Where it begins on the disk.
        size_bytes: Its length.
    """

    number: int
    kind: int
    start_byte: int
    size_bytes: int

    @property
    def end_byte(self) -> int:
        """Where it ends, exclusive."""
        return self.start_byte + self.size_bytes


def read_table(sector: bytes) -> list[Partition]:
    """The primary partitions that the first sector names, in the table's order.

    Raises:
        ImageError: If it holds no table, or the table is that of a GPT disk.
    """
    if len(sector) < SECTOR_BYTES or sector[SECTOR_BYTES - 2 : SECTOR_BYTES] != _SIGNATURE:
        raise ImageError("the image has no partition table: it is not the image of a whole disk")
    found = []
    for number in range(1, _ENTRIES + 1):
        entry = sector[_TABLE_AT + _ENTRY_BYTES * (number - 1) :][:_ENTRY_BYTES]
        kind = entry[4]
        start, sectors = struct.unpack_from("<II", entry, 8)
        if kind == _PROTECTIVE:
            raise ImageError(
                "the image has a GPT; only images with an MBR can be seeded. For a Jetson: coda flash jetson"
            )
        if kind and sectors:
            found.append(Partition(number, kind, start * SECTOR_BYTES, sectors * SECTOR_BYTES))
    return found


def boot_partition(sector: bytes, image_bytes: int) -> Partition:
    """The first FAT partition, which the board's firmware reads.

    Raises:
        ImageError: If there is none, it overlaps another partition or the table, or one lies outside of the image.
    """
    table = read_table(sector)
    boot = next((one for one in table if one.kind in _FAT_KINDS), None)
    if boot is None:
        raise ImageError("the image has no FAT partition to seed")
    last = max(table, key=lambda one: one.end_byte)
    if boot.start_byte < SECTOR_BYTES or last.end_byte > image_bytes:
        raise ImageError(
            f"partition {last.number} ends at byte {last.end_byte}, the image at {image_bytes}: it is cut short"
        )
    for other in table:
        if other is not boot and other.start_byte < boot.end_byte and boot.start_byte < other.end_byte:
            raise ImageError(f"partitions {boot.number} and {other.number} of the image overlap")
    return boot
