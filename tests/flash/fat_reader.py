"""A reader of FAT32 from Microsoft's specification, not from mtools: a second opinion on what is on a card."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_END = 0x0FFFFFF8


class Fat32:
    """The files of a FAT32 file system in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._sector, self._per_cluster, reserved, copies = struct.unpack_from("<HBHB", data, 11)
        (sectors,) = struct.unpack_from("<I", data, 36)
        (self._root,) = struct.unpack_from("<I", data, 44)
        self._fat = data[reserved * self._sector :][: sectors * self._sector]
        self._area = (reserved + copies * sectors) * self._sector

    def files(self) -> dict[str, bytes]:
        """Every file by its path."""
        return dict(self._walk(self._root, ""))

    def _walk(self, cluster: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        long_name = ""
        directory = self._chain(cluster)
        for at in range(0, len(directory), 32):
            entry = directory[at : at + 32]
            if entry[0] == 0:
                return
            if entry[0] == 0xE5 or (entry[11] & 0x08 and entry[11] != 0x0F):
                long_name = ""
                continue
            if entry[11] == 0x0F:
                piece = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le")
                long_name = piece.split("\0", maxsplit=1)[0] + long_name
                continue
            name, long_name = long_name or _short_name(entry), ""
            first = struct.unpack_from("<H", entry, 20)[0] << 16 | struct.unpack_from("<H", entry, 26)[0]
            if entry[11] & 0x10:
                if name not in (".", ".."):
                    yield from self._walk(first, f"{prefix}{name}/")
            else:
                yield prefix + name, self._chain(first)[: struct.unpack_from("<I", entry, 28)[0]]

    def _chain(self, cluster: int) -> bytes:
        size, parts = self._sector * self._per_cluster, []
        while 2 <= cluster < _END:
            start = self._area + (cluster - 2) * size
            parts.append(self._data[start : start + size])
            cluster = struct.unpack_from("<I", self._fat, 4 * cluster)[0] & 0x0FFFFFFF
        return b"".join(parts)


def _short_name(entry: bytes) -> str:
    base, extension = entry[:8].decode("ascii").rstrip(), entry[8:11].decode("ascii").rstrip()
    # Bits 3 and 4: base and extension are lower case, which Windows and mtools write in place of a long name.
    base = base.lower() if entry[12] & 0x08 else base
    extension = extension.lower() if entry[12] & 0x10 else extension
    return f"{base}.{extension}" if extension else base
