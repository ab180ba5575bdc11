"""What a disk is, told from /sys and /proc, and every reason not to write to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardware.errors import TargetError
from hardware.files import read_text
from hardware.flash.partitions import SECTOR_BYTES

# Cards for boards are not larger; a disk that is, is likelier a backup drive than a card.
MOST_BYTES = 512 * 10**9
_SYSTEM_MOUNTS = frozenset({"/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home"})


@dataclass(frozen=True)
class Disk:
    """A whole disk.

    Attributes:
        path: Its device file, such as ``/dev/sdb``.
        name: Its name in the kernel.
        size_bytes: Its capacity.
        model: What it calls itself, or None.
        serial: Its serial number (of the reader, where a card sits in a USB reader), or None.
        removable: The kernel calls it removable, or it is an SD card in a slot of its own.
        read_only: It refuses writes: the card's switch.
        mounts: Where it or anything on it is mounted.
        swaps: Swap areas on it.
        holders: What is stacked on it: RAID, LVM, encryption.
        number: Counts the disks that the kernel has seen; another one under the same name has another.
    """

    path: Path
    name: str
    size_bytes: int
    model: str | None
    serial: str | None
    removable: bool
    read_only: bool
    mounts: tuple[str, ...]
    swaps: tuple[str, ...]
    holders: tuple[str, ...]
    number: str | None

    def refusals(self, most_bytes: int = MOST_BYTES) -> list[str]:
        """Why it must not be written to; none if it may. Whether an image fits is found out while it is read.

        Args:
            most_bytes: Disks above this are not taken for cards.
        """
        system = sorted(_SYSTEM_MOUNTS & set(self.mounts))
        others = sorted(set(self.mounts) - _SYSTEM_MOUNTS)
        found = [
            (system, f"this computer runs from it ({', '.join(system)})"),
            (self.swaps, f"this computer swaps on it ({', '.join(self.swaps)})"),
            (others, f"it is mounted at {', '.join(others)}: unmount it first"),
            (self.holders, f"it is part of {', '.join(self.holders)}"),
            (not self.removable, "it is not removable"),
            (self.read_only, "it is read-only: look at the card's switch"),
            (self.size_bytes == 0, "no card is in the reader"),
            (self.size_bytes > most_bytes, f"it has {self.size_bytes} bytes, more than a card ({most_bytes})"),
            (self.serial is None, "it has no serial number to confirm it by: use another reader"),
        ]
        return [text for applies, text in found if applies]

    def check(self, most_bytes: int = MOST_BYTES) -> None:
        """Raise what `refusals` finds.

        Raises:
            TargetError: If there is a reason not to write.
        """
        if refusals := self.refusals(most_bytes):
            raise TargetError(f"{self.path} is refused: {'; '.join(refusals)}. Nothing was written")


def find_disks(root: Path = Path("/")) -> list[Disk]:
    """Every disk of this machine that can be named, without loop devices, memory disks and stacked ones."""
    stacked = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd)\d")
    names = sorted(path.name for path in (root / "sys/block").glob("*") if not stacked.match(path.name))
    return [inspect(Path("/dev") / name, root) for name in names]


def inspect(device: Path, root: Path = Path("/")) -> Disk:
    """Tell what a disk is. Links such as those of ``/dev/disk/by-id`` are followed.

    Args:
        device: Its device file.
        root: Where ``/sys``, ``/proc`` and ``/dev`` hang; tests give a tree of their own.

    Raises:
        TargetError: If there is no such disk, or it is a partition of one.
    """
    path = _resolved(device, root)
    block = root / "sys/block" / path.name
    if not block.is_dir():
        whole = next((root / "sys/block").glob(f"*/{path.name}/partition"), None)
        hint = (
            f"it is a partition; name the disk, /dev/{whole.parent.parent.name}" if whole else "there is no such disk"
        )
        raise TargetError(f"{device}: {hint}. `coda flash disks` lists them")
    parts = [block, *(entry.parent for entry in sorted(block.glob(f"{path.name}*/partition")))]
    holders = tuple(sorted({holder for part in parts for holder in _holders(part, root)}))
    family = {part.name: read_text(part / "dev") for part in [*parts, *(root / "sys/block" / name for name in holders)]}
    return Disk(
        path=path,
        name=path.name,
        size_bytes=int(read_text(block / "size") or 0) * SECTOR_BYTES,
        model=_model(block),
        serial=_serial(block, root),
        removable=read_text(block / "removable") == "1" or read_text(block / "device/type") == "SD",
        read_only=read_text(block / "ro") == "1",
        mounts=tuple(sorted(_mounts(family, root))),
        swaps=tuple(_swaps(family, root)),
        holders=holders,
        number=read_text(block / "diskseq"),
    )


def _resolved(device: Path, root: Path) -> Path:
    inside = root / device.relative_to("/") if device.is_absolute() else root / "dev" / device
    if inside.is_symlink():
        return Path("/dev") / inside.readlink().name
    if inside.parent != root / "dev":
        raise TargetError(f"{device}: not a device file of /dev. `coda flash disks` lists them")
    return Path("/dev") / device.name


def _holders(part: Path, root: Path) -> Iterator[str]:
    """What is stacked on a disk or partition, and on that in turn."""
    for holder in sorted((part / "holders").glob("*")):
        yield holder.name
        yield from _holders(root / "sys/block" / holder.name, root)


def _mounts(family: dict[str, str | None], root: Path) -> Iterator[str]:
    """Where anything of the family is mounted: by number, and by name, as btrfs has numbers of its own."""
    numbers, sources = set(family.values()) - {None}, {f"/dev/{name}" for name in family}
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 2:
            continue
        if fields[2] in numbers or _unescaped(rest[1]) in sources:
            yield _unescaped(fields[4])


def _swaps(family: dict[str, str | None], root: Path) -> Iterator[str]:
    sources = {f"/dev/{name}" for name in family}
    for line in _lines(root / "proc/swaps")[1:]:
        name = _unescaped(line.split()[0])
        # A swap file is on a mounted file system, and is found as a mount.
        if name in sources:
            yield name


def _lines(path: Path) -> list[str]:
    """All lines; a table that cannot be read would look like one without mounts, so that is an error.

    Raises:
        TargetError: If it cannot be read.
    """
    try:
        return [line for line in path.read_text("utf-8", "surrogateescape").splitlines() if line.strip()]
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}; without it no disk can be told to be unused") from error


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _model(block: Path) -> str | None:
    words = [read_text(block / "device" / name) for name in ("vendor", "model", "name")]
    return " ".join(word for word in words if word) or None


def _serial(block: Path, root: Path) -> str | None:
    """The card's, the disk's, or that of the USB device which it hangs on."""
    for name in ("device/serial", "serial"):
        if serial := read_text(block / name):
            return serial
    device = block / "device"
    top = (root / "sys").resolve()
    for parent in [device.resolve(), *device.resolve().parents] if device.exists() else []:
        if parent == top or top not in parent.parents:
            return None
        if (parent / "idVendor").exists() and (serial := read_text(parent / "serial")):
            return serial
    return None
