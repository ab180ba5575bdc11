"""What `coda flash` says and asks: progress, the plan, the serial number, the receipt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import typer

from coda.errors import UsageError
from coda.flashing import Order, place_seed, private_scratch
from coda.output import console, print_json, progress, results
from hardware.errors import TargetError
from hardware.flash.disks import Disk
from hardware.flash.prepare import Examined, examine
from hardware.flash.receipt import Receipt
from hardware.flash.writer import Progress


@contextmanager
def examining(image: Path, expected: str | None, most_bytes: int | None) -> Iterator[Examined]:
    """The image, read once; its boot partition's copy is gone afterwards."""
    with private_scratch() as scratch:
        with progress() as bars:
            bar = bars.add_task("reading the image", total=None)
            examined = examine(
                image, scratch, expected=expected, most_bytes=most_bytes, progress=lambda size: bars.advance(bar, size)
            )
        yield examined


@contextmanager
def writing(examined: Examined) -> Iterator[Progress]:
    """Bars for writing and reading back."""
    with progress() as bars:
        tasks = {step: bars.add_task(step, total=examined.digest.raw_bytes) for step in ("write", "verify")}
        yield lambda step, size: bars.advance(tasks[step], size)


def print_plan(examined: Examined, order: Order, disk: Disk, as_json: bool) -> None:
    """What would be written where; the seed is tried on the copy, with a token that is good for nothing."""
    system, _, names = place_seed(examined, order, spend=False)
    plan = {
        "name": order.name,
        "system": system.value,
        "image": str(examined.image),
        "image_sha256": examined.digest.file_sha256,
        "image_raw_sha256": examined.digest.raw_sha256,
        "image_bytes": examined.digest.raw_bytes,
        "target": described(disk),
        "seed_files": list(names),
        "written": False,
    }
    if as_json:
        print_json(plan)
        return
    results.print(
        f"{order.name}: {examined.image} ({system.value}, {examined.digest.raw_bytes} bytes) goes to {disk.path} "
        f"({disk.model or 'unnamed'}, serial {disk.serial}, {disk.size_bytes} bytes)\n"
        f"seeded with {', '.join(names)}\n"
        "everything on the disk will be lost. Nothing was written; to write, say --write",
        markup=False,
    )


def described(disk: Disk) -> dict[str, object]:
    """A disk as JSON tells it."""
    return {
        "path": str(disk.path),
        "model": disk.model,
        "serial": disk.serial,
        "size_bytes": disk.size_bytes,
        "mounts": list(disk.mounts),
    }


def confirm(disk: Disk, given: str | None) -> None:
    """Whoever writes has looked at the disk: its serial number must be typed.

    Raises:
        TargetError: If it was not, or another was.
    """
    if given is None and sys.stdin.isatty():
        given = typer.prompt(
            f"{disk.path} ({disk.model}, {disk.size_bytes / 1e9:.1f} GB) will be lost. Its serial number", err=True
        )
    if given is None:
        refuse(disk, "its serial number was not typed: --serial, where there is no terminal")
    elif given.strip() != disk.serial:
        refuse(disk, "that is not its serial number (`coda flash disks` shows it)")


def refuse(disk: Disk, why: str) -> NoReturn:
    """Raise it as `Disk.check` does."""
    raise TargetError(f"{disk.path} is refused: {why}. Nothing was written")


def check_receipt(path: Path | None) -> None:
    """See before anything is written that the receipt will find its place.

    Raises:
        UsageError: If a file is there.
    """
    if path is not None and path.exists():
        raise UsageError(f"--receipt {path} exists; name a new file")


def deliver(done: Receipt, path: Path | None, as_json: bool) -> None:
    """Save the receipt, and say that it is done."""
    path = path or Path(f"{done.name}.{done.time.replace(':', '')}.receipt.json")
    done.save(path)
    if as_json:
        print_json(asdict(done) | {"receipt": str(path)})
        return
    emulated = " (EMULATED)" if done.emulated else ""
    console.print(f"{done.name}: written to {done.target}{emulated}, read back and equal; receipt {path}", markup=False)
