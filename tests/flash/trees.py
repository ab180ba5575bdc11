"""Emulated systems: /sys, /proc and /dev as the kernel lays them out, with disks that are sparse files."""

from __future__ import annotations

from pathlib import Path

from tests.hardware.trees import put

SERIAL = "4C530001"


def system(root: Path) -> Path:
    """A computer that runs from an NVMe disk with three partitions, swaps on one, and has an encrypted /home."""
    nvme = "sys/devices/pci0000:00/nvme/nvme0"
    put(root, f"{nvme}/model", "Samsung SSD")
    put(root, f"{nvme}/serial", "S4EWNX0")
    disk(root, "nvme0n1", f"{nvme}/nvme0n1", "259:0", 10**11, removable=False, device="..")
    for number in (1, 2, 3):
        part(root, f"{nvme}/nvme0n1", f"nvme0n1p{number}", f"259:{number}", number)
    put(root, f"{nvme}/nvme0n1/nvme0n1p3/holders/dm-0/dm/name", "luks-home")
    dm = "sys/devices/virtual/block/dm-0"
    put(root, f"{dm}/dev", "254:0")
    (root / "sys/block/dm-0").symlink_to(f"../../{dm}")
    put(
        root,
        "proc/self/mountinfo",
        "22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n"
        "23 22 0:21 / /proc rw shared:2 - proc proc rw\n"
        "24 22 254:0 / /home rw shared:3 - ext4 /dev/mapper/luks-home rw",
    )
    put(
        root,
        "proc/swaps",
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p2  partition\t8388604\t\t0\t\t-2",
    )
    return root


def usb_card(
    root: Path, size_bytes: int, *, name: str = "sdz", serial: str | None = SERIAL, read_only: int = 0
) -> Path:
    """A card in a USB reader. Returns its device file, a sparse file."""
    usb = "sys/devices/pci0000:00/usb1/1-2"
    put(root, f"{usb}/idVendor", "0781")
    if serial is not None:
        put(root, f"{usb}/serial", serial)
    scsi = f"{usb}/1-2:1.0/host6/target6:0:0/6:0:0:0"
    put(root, f"{scsi}/vendor", "Generic")
    put(root, f"{scsi}/model", "STORAGE DEVICE")
    folder = f"{scsi}/block/{name}"
    disk(root, name, folder, "8:400", size_bytes, removable=True, device="../..", read_only=read_only)
    part(root, folder, f"{name}1", "8:401", 1)
    return device_file(root, name, size_bytes)


def slot_card(root: Path, size_bytes: int, kind: str = "SD") -> Path:
    """A card in a slot of its own (SD), or memory that is soldered in (MMC); the kernel calls neither removable."""
    card = "sys/devices/platform/mmc_host/mmc0/mmc0:aaaa"
    put(root, f"{card}/type", kind)
    put(root, f"{card}/name", "SC32G")
    put(root, f"{card}/serial", "0x1a2b3c4d")
    disk(root, "mmcblk0", f"{card}/block/mmcblk0", "179:0", size_bytes, removable=False, device="../..")
    part(root, f"{card}/block/mmcblk0", "mmcblk0p1", "179:1", 1)
    return device_file(root, "mmcblk0", size_bytes)


def disk(
    root: Path,
    name: str,
    folder: str,
    number: str,
    size_bytes: int,
    *,
    removable: bool,
    device: str,
    read_only: int = 0,
) -> None:
    """One disk of /sys/block."""
    values: dict[str, str | int] = {
        "dev": number,
        "size": size_bytes // 512,
        "removable": int(removable),
        "ro": read_only,
        "diskseq": 9,
    }
    for key, value in values.items():
        put(root, f"{folder}/{key}", value)
    (root / folder / "holders").mkdir()
    (root / folder / "device").symlink_to(device)
    (root / "sys/block").mkdir(exist_ok=True)
    (root / "sys/block" / name).symlink_to(f"../../{folder}")


def part(root: Path, folder: str, name: str, number: str, index: int) -> None:
    """One partition of a disk."""
    put(root, f"{folder}/{name}/partition", index)
    put(root, f"{folder}/{name}/dev", number)
    (root / folder / name / "holders").mkdir()


def device_file(root: Path, name: str, size_bytes: int) -> Path:
    """A disk's device file: a sparse file whose first sectors hold an older system."""
    path = root / "dev" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(b"an older system" * 1000)
        file.truncate(size_bytes)
    return path


def mount(root: Path, line: str) -> None:
    """One more mount."""
    with (root / "proc/self/mountinfo").open("a") as file:
        file.write(line + "\n")
