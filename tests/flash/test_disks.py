"""What a disk is, and every reason not to write to it (emulated /sys and /proc)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardware.errors import TargetError
from hardware.flash.disks import MOST_BYTES, find_disks, inspect
from tests.flash.trees import SERIAL, slot_card, system, usb_card
from tests.flash.trees import mount as mount_line
from tests.hardware.trees import put

_GB = 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A computer with no card in it."""
    return system(tmp_path)


def test_a_card_in_a_reader_may_be_written_to(root: Path) -> None:
    """Removable, unmounted, with the serial of the USB device that it hangs on: nothing speaks against it."""
    usb_card(root, 32 * _GB)
    card = inspect(Path("/dev/sdz"), root)
    assert (card.serial, card.size_bytes, card.model) == (SERIAL, 32 * _GB, "Generic STORAGE DEVICE")
    assert card.refusals() == []
    card.check()


def test_a_card_in_a_slot_may_be_written_to_but_soldered_memory_may_not(tmp_path: Path) -> None:
    """The kernel calls neither removable; the card's own type tells."""
    sd, emmc = system(tmp_path / "sd"), system(tmp_path / "emmc")
    slot_card(sd, 32 * _GB)
    slot_card(emmc, 32 * _GB, "MMC")
    assert inspect(Path("/dev/mmcblk0"), sd).refusals() == []
    assert inspect(Path("/dev/mmcblk0"), emmc).refusals() == ["it is not removable"]


def test_the_disk_that_the_computer_runs_from_is_refused(root: Path) -> None:
    """For /, for swap, and for the encrypted /home that is stacked on one of its partitions."""
    said = "; ".join(inspect(Path("/dev/nvme0n1"), root).refusals())
    for reason in ("runs from it (/, /home)", "swaps on it (/dev/nvme0n1p2)", "part of dm-0", "not removable"):
        assert reason in said
    with pytest.raises(TargetError, match="Nothing was written"):
        inspect(Path("/dev/nvme0n1"), root).check()


@pytest.mark.parametrize("point", ["/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home"])
def test_a_card_that_backs_part_of_the_system_is_refused(root: Path, point: str) -> None:
    """Also a removable one: computers and boards run from cards."""
    usb_card(root, 32 * _GB)
    mount_line(root, f"30 22 8:401 / {point} rw - ext4 /dev/sdz1 rw")
    assert inspect(Path("/dev/sdz"), root).refusals() == [f"this computer runs from it ({point})"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("30 22 8:401 / /media/me/boot rw - vfat /dev/sdz1 rw", "/media/me/boot"),
        ("30 22 8:400 / /media/whole rw - vfat /dev/sdz rw", "/media/whole"),
        ("30 22 0:55 / /media/btrfs rw - btrfs /dev/sdz1 rw", "/media/btrfs"),
        ("30 22 8:401 / /media/my\\040card rw - vfat /dev/other rw", "/media/my card"),
    ],
)
def test_a_mounted_card_is_refused(root: Path, line: str, where: str) -> None:
    """Whether the kernel's table names it by number or by name; names with blanks are escaped there."""
    usb_card(root, 32 * _GB)
    mount_line(root, line)
    assert inspect(Path("/dev/sdz"), root).refusals() == [f"it is mounted at {where}: unmount it first"]


def test_swap_on_a_card_is_refused(root: Path) -> None:
    """A board with little memory swaps to a card."""
    usb_card(root, 32 * _GB)
    with (root / "proc/swaps").open("a") as file:
        file.write("/dev/sdz1  partition  1000  0  -3\n")
    assert inspect(Path("/dev/sdz"), root).refusals() == ["this computer swaps on it (/dev/sdz1)"]


def test_what_is_stacked_on_a_card_is_seen_through(root: Path) -> None:
    """A mount of what lies on an encrypted partition is a mount of the card."""
    usb_card(root, 32 * _GB)
    put(root, "sys/devices/virtual/block/dm-7/dev", "254:7")
    put(root, "sys/devices/virtual/block/dm-7/holders/dm-8/x", 0)
    put(root, "sys/devices/virtual/block/dm-8/dev", "254:8")
    for name in ("dm-7", "dm-8"):
        (root / "sys/block" / name).symlink_to(f"../devices/virtual/block/{name}")
    put(root, "sys/block/sdz/sdz1/holders/dm-7/x", 0)
    mount_line(root, "30 22 254:8 / /mnt rw - ext4 /dev/mapper/vg-data rw")
    assert inspect(Path("/dev/sdz"), root).refusals() == [
        "it is mounted at /mnt: unmount it first",
        "it is part of dm-7, dm-8",
    ]


def test_sizes_that_no_card_has_are_refused(root: Path) -> None:
    """A disk larger than cards are, and a reader without a card."""
    usb_card(root, 2 * _GB)
    put(root, "sys/block/sdz/size", (MOST_BYTES + 512) // 512)
    assert "more than a card" in inspect(Path("/dev/sdz"), root).refusals()[0]
    assert inspect(Path("/dev/sdz"), root).refusals(2 * MOST_BYTES) == []
    put(root, "sys/block/sdz/size", 0)
    assert inspect(Path("/dev/sdz"), root).refusals() == ["no card is in the reader"]


def test_write_protection_and_a_missing_serial_are_refused(tmp_path: Path) -> None:
    """A card with its switch on; a reader that has no serial number to confirm by."""
    usb_card(system(tmp_path / "a"), _GB, read_only=1)
    usb_card(system(tmp_path / "b"), _GB, serial=None)
    assert inspect(Path("/dev/sdz"), tmp_path / "a").refusals() == ["it is read-only: look at the card's switch"]
    assert "no serial number" in inspect(Path("/dev/sdz"), tmp_path / "b").refusals()[0]


def test_what_is_no_whole_disk_is_refused(root: Path) -> None:
    """A partition, a name that is not there, a file elsewhere that is called like a disk."""
    usb_card(root, _GB)
    for device, said in [
        ("/dev/sdz1", "name the disk, /dev/sdz"),
        ("/dev/sdq", "no such"),
        ("/tmp/sdz", "not a device"),
    ]:
        with pytest.raises(TargetError, match=said):
            inspect(Path(device), root)


def test_a_link_is_followed(root: Path) -> None:
    """/dev/disk/by-id names the same disk."""
    usb_card(root, _GB)
    (root / "dev/disk/by-id").mkdir(parents=True)
    (root / "dev/disk/by-id/usb-Generic").symlink_to("../../sdz")
    assert inspect(Path("/dev/disk/by-id/usb-Generic"), root).path == Path("/dev/sdz")


def test_without_the_mount_table_nothing_is_written(root: Path) -> None:
    """A table that cannot be read must not look like one without mounts."""
    usb_card(root, _GB)
    (root / "proc/self/mountinfo").unlink()
    with pytest.raises(TargetError, match="mountinfo"):
        inspect(Path("/dev/sdz"), root)


def test_disks_are_listed_without_what_is_stacked_on_them(root: Path) -> None:
    """The computer's own disk and the card, not the encrypted volume."""
    usb_card(root, _GB)
    assert [disk.name for disk in find_disks(root)] == ["nvme0n1", "sdz"]
