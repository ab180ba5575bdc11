"""Tiny payloads that would unpack to gigabytes, and the memory that reading them may take."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import zstandard

from protocol.batch_codec import encode_batch, encode_plain
from protocol.columns import Codec
from protocol.packing import pack, unpack
from protocol.samples import SampleBatch

BOMB_BYTES = 2 << 30
_PIECE = bytes(16 << 20)


@cache
def zstd_bomb(*, stated: bool = True) -> bytes:
    """Two gigabytes of zeros; ``stated`` in the frame's header or not."""
    packer = zstandard.ZstdCompressor(level=1).compressobj(size=BOMB_BYTES if stated else -1)
    pieces = [packer.compress(_PIECE) for _ in range(BOMB_BYTES // len(_PIECE))]
    return b"".join([*pieces, packer.flush()])


@cache
def zlib_bomb() -> bytes:
    """A quarter of a gigabyte of zeros: what fits into a message as zlib."""
    return zlib.compress(bytes(256 << 20), 1)[: 900 << 10]


BOMBS: dict[str, Callable[[], tuple[Codec, bytes]]] = {
    "zstd": lambda: (Codec.ZSTD, zstd_bomb()),
    "zstd of unstated size": lambda: (Codec.ZSTD, zstd_bomb(stated=False)),
    "zlib": lambda: (Codec.ZLIB, zlib_bomb()),
}


def bombed(batch: SampleBatch, which: str, *, compact: bool) -> bytes:
    """The batch with its first column replaced by a bomb, all sizes and checksums right."""
    payload = encode_batch(batch) if compact else encode_plain(batch)
    magic, size = struct.unpack_from("<4sI", payload)
    header, body = unpack(payload[8 : 8 + size], "header"), payload[8 + size :]
    codec, bomb = BOMBS[which]()
    sizes: list[Any] = header["streams"] if compact else header["columns"]
    first = sizes[1] if compact else sizes[0][1]
    body = bomb + body[first:]
    if compact:
        sizes[:2] = [int(codec), len(bomb)]
        header["crc32"] = zlib.crc32(body)
    else:
        sizes[0] = [int(codec), len(bomb)]
    packed = pack(header)
    return struct.pack("<4sI", magic, len(packed)) + packed + body


@contextmanager
def little_memory(limit_bytes: int = 64 << 20) -> Iterator[None]:
    """Fails if this process, at its highest in the body, has that much more memory than before."""
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the highest so far
    before = _status("VmRSS")
    yield
    grown = _status("VmHWM") - before
    assert grown < limit_bytes, f"grew by {grown >> 20} MiB"


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))
