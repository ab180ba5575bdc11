"""Decoders and bombs: refused before the memory is taken."""

from __future__ import annotations

import hashlib
import struct
import sys

import pytest

from protocol.batch_codec import decode_batch
from protocol.columns import decode_column
from protocol.errors import MalformedMessageError, ProtocolError
from protocol.messages import BlobRef
from protocol.packing import unpack
from protocol.patch import apply_patch
from tests.edge.samples import SCHEMA, samples
from tests.security.bombs import BOMBS, bombed, little_memory, zstd_bomb

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory's peak is read from /proc")


@pytest.mark.parametrize("which", BOMBS)
def test_a_column_takes_no_more_than_its_shape(which: str) -> None:
    """However much the bytes would unpack to."""
    codec, bomb = BOMBS[which]()
    with little_memory(), pytest.raises(ProtocolError):
        decode_column(codec, bomb, "float32", (1_000_000,))


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("which", BOMBS)
def test_a_batch_takes_no_more_than_its_samples(which: str, compact: bool) -> None:
    """In either layout."""
    payload = bombed(samples(2000), which, compact=compact)
    with little_memory(), pytest.raises(ProtocolError):
        decode_batch(payload, SCHEMA)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("way", [0, 1])
def test_a_patch_takes_no_more_than_the_file_it_makes(way: int, stated: bool) -> None:
    """The file's size is known beforehand."""
    new = BlobRef(hashlib.sha256(b"new").hexdigest(), 1000)
    with little_memory(), pytest.raises(ProtocolError):
        apply_patch(bytes(1000), b"CDP1" + bytes([way]) + zstd_bomb(stated=stated), new)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x81\xa1a" + b"\x91" * 500_000,
        b"\x81\xa1a" + b"\x81\xa1a" * 300_000,
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x81\xa1a" + b"\xdc" + struct.pack(">H", 4096) + (b"\xdc" + struct.pack(">H", 4096)) * 100_000,
    ],
)
def test_deep_nesting_and_claimed_lengths_are_refused(payload: bytes) -> None:
    """Neither the stack nor the memory is what a message claims."""
    with little_memory(), pytest.raises(MalformedMessageError):
        unpack(payload, "message")
