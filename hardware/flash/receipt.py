"""What was written where, for whoever looks after the boards. It holds no secret."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One flash.

    Attributes:
        time: When it was done, UTC, ISO 8601.
        name: The board's.
        system: Kind of system on the image; see `hardware.flash.seed.System`.
        image: The image's file name.
        image_sha256: Of the file.
        image_raw_sha256: Of what it unpacks to.
        image_checked: Whether one of them was compared with a digest that was known before.
        seed_sha256: Over the seed's names and the digests of its contents.
        seed_files: Their names.
        written_sha256: Of everything on the medium, as it was read back.
        written_bytes: How much that is.
        target: Device or file.
        target_model: What the disk calls itself; None for a file.
        target_serial: The disk's serial number; None for a file.
        read_back: ``direct`` (O_DIRECT) or ``dropped`` (the kernel was asked to drop its cache).
        emulated: The disk was a file in a tree of tests' own.
    """

    time: str
    name: str
    system: str
    image: str
    image_sha256: str
    image_raw_sha256: str
    image_checked: bool
    seed_sha256: str
    seed_files: tuple[str, ...]
    written_sha256: str
    written_bytes: int
    target: str
    target_model: str | None
    target_serial: str | None
    read_back: str
    emulated: bool

    def save(self, path: Path) -> None:
        """Write as JSON, readable by its owner alone; never over another receipt.

        Raises:
            OSError: If the file exists or cannot be written.
        """
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.write("\n")
