"""Images: compressed or not, whole or cut short, the right one or another."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import ImageError
from hardware.flash.image import CHUNK_BYTES, ImageStream, expected_sha256
from hardware.flash.partitions import boot_partition, read_table
from hardware.flash.prepare import examine
from tests.flash.images import BOOT_AT, MIB, TRIXIE, build, partitions

_RAW = random.Random(0).randbytes(3 * CHUNK_BYTES // 2) + bytes(CHUNK_BYTES)


def _several(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A file of several compressed streams, as parallel compressors write it."""
    return lambda data: pack(data[:1000]) + pack(data[1000:])


_KINDS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "xz": lzma.compress,
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz-several": _several(lzma.compress),
    "gz-several": _several(gzip.compress),
    "zst-several": _several(zstandard.ZstdCompressor().compress),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_is_streamed_and_hashed(tmp_path: Path, kind: str) -> None:
    """In pieces of one size, told apart by content and not by name; both digests are right."""
    path = tmp_path / "image"
    path.write_bytes(_KINDS[kind](_RAW))
    stream = ImageStream(path)
    chunks = list(stream.chunks())
    assert b"".join(chunks) == _RAW
    assert {len(chunk) for chunk in chunks[:-1]} == {CHUNK_BYTES}
    assert stream.digest.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stream.digest.raw_sha256 == hashlib.sha256(_RAW).hexdigest()
    assert stream.digest.raw_bytes == len(_RAW)


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "raw"])
@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.01, 0.99))
def test_a_download_that_was_cut_short_is_found_out(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    """At any point, in every kind; `zstandard`'s own reader would be silent."""
    packed = _KINDS[kind](_RAW[: 1 << 16])
    first = len(_KINDS[kind.removesuffix("-several")](_RAW[:1000]))
    cut = int(share * len(packed))
    if kind.endswith("-several") and cut == first:
        return  # a whole stream, which nothing but the digest tells from a whole file
    path = tmp_path_factory.mktemp("cut") / "image"
    path.write_bytes(packed[: max(9, cut)])
    with pytest.raises(ImageError, match="damaged or cut short"):
        list(ImageStream(path).chunks())


@pytest.mark.parametrize("kind", ["xz", "gz", "zst"])
def test_damage_is_an_image_error(tmp_path: Path, kind: str) -> None:
    """A flipped byte in a compressed stream."""
    packed = bytearray(_KINDS[kind](_RAW))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "image"
    path.write_bytes(packed)
    with pytest.raises(ImageError):
        list(ImageStream(path).chunks())


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a few kilobytes stops at the medium's size."""
    path, packer = tmp_path / "bomb.zst", zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(packer.compress(bytes(MIB)))
        file.write(packer.flush())
    with pytest.raises(ImageError, match="more than the 1048576 bytes"):
        examine(path, tmp_path, expected=None, most_bytes=MIB)


def test_a_zip_and_a_missing_file_say_what_to_do(tmp_path: Path) -> None:
    """ZIP archives are not streamed."""
    (tmp_path / "os.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ImageError, match="unpack it"):
        list(ImageStream(tmp_path / "os.zip").chunks())
    with pytest.raises(ImageError, match="No such file"):
        list(ImageStream(tmp_path / "none").chunks())


def test_publishers_digests_are_found(tmp_path: Path) -> None:
    """Raspberry Pi's file beside the image, Ubuntu's list of many."""
    image = tmp_path / "os.img.xz"
    assert expected_sha256(image) is None
    (tmp_path / "SHA256SUMS").write_text(f"{'b' * 64} *other.img.xz\n{'a' * 64} *os.img.xz\n")
    assert expected_sha256(image) == "a" * 64
    (tmp_path / "os.img.xz.sha256").write_text(f"{'C' * 64}  os.img.xz\n")
    assert expected_sha256(image) == "c" * 64


def test_an_image_is_examined_in_one_pass(tmp_path: Path) -> None:
    """Table as sfdisk reads it, a private copy of the boot partition, the digest of either form accepted."""
    image = build(tmp_path / "os.img", TRIXIE, boot_bytes=MIB, root_bytes=MIB, fat=12)
    packed = tmp_path / "os.img.xz"
    packed.write_bytes(lzma.compress(image.path.read_bytes(), preset=0))
    for number, digested in enumerate((packed, image.path)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        found = examine(packed, scratch, expected=hashlib.sha256(digested.read_bytes()).hexdigest())
        table = [(part.start_byte, part.size_bytes) for part in read_table(image.path.read_bytes()[:512])]
        assert table == partitions(image.path)
        assert (found.boot.start_byte, found.boot.size_bytes) == (BOOT_AT, MIB)
        assert found.boot_file.read_bytes() == image.path.read_bytes()[BOOT_AT : BOOT_AT + MIB]
        assert found.boot_file.stat().st_mode & 0o777 == 0o600


def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    """No table, a GPT, no FAT partition, one of either kind beyond the image's end, two that overlap."""
    sector = bytearray(
        build(tmp_path / "os.img", TRIXIE, boot_bytes=MIB, root_bytes=MIB, fat=12).path.read_bytes()[:512]
    )
    size = BOOT_AT + 2 * MIB

    def changed(at: int, value: bytes) -> bytes:
        return bytes(sector[:at] + value + sector[at + len(value) :])

    for wrong, said in [
        (bytes(512), "no partition table"),
        (changed(450, b"\xee"), "GPT"),
        (changed(450, b"\x83"), "no FAT"),
        (changed(458, b"\xff\xff\xff\x7f"), "partition 1 ends .* cut short"),
        (changed(474, (MIB // 512 + 1).to_bytes(4, "little")), "partition 2 ends .* cut short"),
        (changed(470, (BOOT_AT // 512 + 1).to_bytes(4, "little")), "overlap"),
    ]:
        with pytest.raises(ImageError, match=said):
            boot_partition(wrong, size)
