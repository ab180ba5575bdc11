"""Writing: whatever happens in between, a medium has a partition table only when everything else on it is right."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.errors import TargetError, WriteError
from hardware.flash.prepare import Examined, examine
from hardware.flash.target import Target, create_image, open_device
from hardware.flash.writer import write
from tests.flash.images import BOOT_AT, MIB, TRIXIE, build

_SECTOR = 512
_SIZE = 7 * MIB
_OLD = b"\xa5" * _SIZE


class PowerCutError(OSError):
    """The emulated power went."""


class Card(Target):
    """An emulated card with a volatile write cache, whose power goes after a number of bytes.

    What was written since the last sync may be on the card or not, sector by sector, in any order.
    """

    def __init__(self, lives_bytes: int, chance: random.Random) -> None:
        self.medium = bytearray(_OLD)
        self.is_cut = False
        self._waiting: list[tuple[int, bytes]] = []
        self._lives_bytes, self._chance = lives_bytes, chance

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return _SIZE

    def write(self, at: int, data: bytes) -> None:
        """Into the cache; where power ends within it, only what came before."""
        room = max(0, self._lives_bytes)
        self._lives_bytes -= len(data)
        self._waiting.append((at, data[:room]))
        if self._lives_bytes < 0:
            self.cut()

    def sync(self) -> None:
        """The cache goes onto the medium."""
        for at, data in self._waiting:
            self.medium[at : at + len(data)] = data
        self._waiting.clear()

    def read(self, at: int, size: int) -> bytes:
        """From the medium alone."""
        return bytes(self.medium[at : at + size])

    def cut(self) -> None:
        """Any of the cache's sectors are on the medium; each is there whole or not at all."""
        self.is_cut = True
        sectors = [(at + i, data[i : i + _SECTOR]) for at, data in self._waiting for i in range(0, len(data), _SECTOR)]
        for at, sector in self._chance.sample(sectors, self._chance.randint(0, len(sectors))):
            if len(sector) == _SECTOR:
                self.medium[at : at + _SECTOR] = sector
        self._waiting.clear()
        raise PowerCutError("power cut")


class WornCard(Card):
    """A card that keeps one bit otherwise than it was written."""

    def __init__(self, bad_byte: int) -> None:
        super().__init__(1 << 40, random.Random(0))
        self._bad_byte = bad_byte

    def sync(self) -> None:
        """Keep all but one bit."""
        super().sync()
        self.medium[self._bad_byte] ^= 0x10


class FakeCard(Card):
    """A card that says it holds more than it does: what is beyond goes back to its beginning."""

    def __init__(self, real_bytes: int) -> None:
        super().__init__(1 << 40, random.Random(0))
        self._real_bytes = real_bytes

    def write(self, at: int, data: bytes) -> None:
        """Around and around."""
        for i in range(0, len(data), _SECTOR):
            super().write((at + i) % self._real_bytes, data[i : i + _SECTOR])

    def read(self, at: int, size: int) -> bytes:
        """Likewise."""
        return b"".join(
            super(FakeCard, self).read((at + i) % self._real_bytes, _SECTOR) for i in range(0, size, _SECTOR)
        )


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """A small image whose boot partition was changed, as a seed changes it."""
    folder = tmp_path_factory.mktemp("writer")
    image = build(folder / "os.img", TRIXIE, boot_bytes=MIB, root_bytes=MIB, fat=12)
    found = examine(image.path, folder, expected=None)
    found.fat.write("coda/token", b"coda1.secret")
    return found


@pytest.fixture(scope="module")
def whole(examined: Examined) -> bytes:
    """What a medium must hold in the end."""
    data = bytearray(examined.image.read_bytes())
    data[BOOT_AT : BOOT_AT + MIB] = examined.boot_file.read_bytes()
    return bytes(data)


def test_everything_is_written(examined: Examined, whole: bytes) -> None:
    """The image with the seeded boot partition, and nothing behind it touched."""
    card = Card(1 << 40, random.Random(0))
    steps: dict[str, int] = {"write": 0, "verify": 0}
    written = write(card, examined, lambda step, size: steps.update({step: steps[step] + size}))
    assert bytes(card.medium[: len(whole)]) == whole
    assert bytes(card.medium[len(whole) :]) == _OLD[len(whole) :]
    assert written.size_bytes == len(whole)
    assert steps == {"write": len(whole), "verify": len(whole)}


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_power_cut_never_leaves_a_bootable_half(examined: Examined, whole: bytes, share: float, seed: int) -> None:
    """At any cut sector 0 is empty; or the card is as it was; or it is whole."""
    card = Card(int(share * (len(whole) + 2 * _SECTOR)), random.Random(seed))
    try:
        write(card, examined)
    except WriteError:
        assert card.is_cut
    first = bytes(card.medium[:_SECTOR])
    if first == _OLD[:_SECTOR]:
        assert bytes(card.medium) == _OLD
    elif first != bytes(_SECTOR):
        assert bytes(card.medium[: len(whole)]) == whole


@pytest.mark.parametrize("lives", [0, 511, 512])
def test_a_power_cut_at_the_start_or_the_end(examined: Examined, whole: bytes, lives: int) -> None:
    """The writes of sector 0 themselves: old or empty at first, empty or whole at last."""
    for extra, allowed in (
        (0, {_OLD[:_SECTOR], bytes(_SECTOR)}),
        (len(whole) + _SECTOR, {bytes(_SECTOR), whole[:_SECTOR]}),
    ):
        card = Card(lives + extra, random.Random(lives))
        try:
            write(card, examined)
        except WriteError:
            assert lives + extra < len(whole) + 2 * _SECTOR
        assert bytes(card.medium[:_SECTOR]) in allowed


@pytest.mark.parametrize("bad_byte", [_SECTOR, BOOT_AT + 5000, BOOT_AT + 2 * MIB - 1])
def test_a_worn_card_is_found_out(examined: Examined, bad_byte: int) -> None:
    """One bit that reads back otherwise: an error that says where, and no partition table."""
    card = WornCard(bad_byte)
    with pytest.raises(WriteError, match=f"bytes {bad_byte // MIB * MIB} to"):
        write(card, examined)
    assert bytes(card.medium[:_SECTOR]) == bytes(_SECTOR)


def test_a_card_that_loses_its_first_sector_is_emptied_again(examined: Examined) -> None:
    """A table that does not hold is not left half there."""
    card = WornCard(100)
    with pytest.raises(WriteError):
        write(card, examined)
    assert bytes(card.medium[446:512]) == bytes(66)


def test_a_card_that_is_smaller_than_it_says_is_found_out(examined: Examined) -> None:
    """Counterfeit cards write over what they hold."""
    card = FakeCard(4 * MIB)
    with pytest.raises(WriteError, match="smaller than it says"):
        write(card, examined)


def test_an_image_that_changes_meanwhile_is_not_made_bootable(examined: Examined, tmp_path: Path) -> None:
    """It was hashed before, and is hashed again while it is written."""
    image = tmp_path / "os.img"
    image.write_bytes(examined.image.read_bytes())
    mine = examine(image, tmp_path, expected=None)
    with image.open("r+b") as file:
        file.seek(BOOT_AT + MIB + 5000)
        file.write(b"changed")
    card = Card(1 << 40, random.Random(0))
    with pytest.raises(WriteError, match="changed while it was read"):
        write(card, mine)
    assert bytes(card.medium[:_SECTOR]) == bytes(_SECTOR)


def test_a_new_image_file_is_sparse_and_private(examined: Examined, whole: bytes, tmp_path: Path) -> None:
    """It holds a token: mode 0600; holes stay holes; what is there is not overwritten."""
    out = tmp_path / "out.img"
    with create_image(out, len(whole)) as target:
        write(target, examined)
    assert out.read_bytes() == whole
    assert out.stat().st_mode & 0o777 == 0o600
    assert out.stat().st_blocks * 512 < len(whole) / 2
    with pytest.raises(TargetError, match="exists"):
        create_image(out, 1)


def test_only_devices_are_devices(tmp_path: Path) -> None:
    """A regular file is opened as a device only where the whole system is emulated, a character device never."""
    file = tmp_path / "sdz"
    file.write_bytes(bytes(4096))
    with pytest.raises(TargetError, match="not a block device"):
        open_device(file)
    with pytest.raises(TargetError, match="not a regular file"):
        open_device(Path(os.devnull), emulated=True)
    with pytest.raises(TargetError, match="No such file"):
        open_device(tmp_path / "none")


def test_what_is_read_back_is_what_the_file_holds(tmp_path: Path) -> None:
    """At any offset and length, though direct reads are aligned; past the end is an error."""
    data = random.Random(1).randbytes(3 * 4096 + 512)
    path = tmp_path / "sdz"
    path.write_bytes(data)
    with open_device(path, emulated=True) as target:
        target.sync()
        for at, size in ((0, 512), (512, 4096), (4095, 2), (0, len(data)), (len(data) - 1, 1)):
            assert target.read(at, size) == data[at : at + size]
        with pytest.raises(WriteError, match="could be read back"):
            target.read(len(data) - 1, 2)
