"""A folder for a Jetson, which is flashed by NVIDIA's own tools and then takes the seed over a cable or a stick."""

from __future__ import annotations

import os
from pathlib import Path

from hardware.errors import TargetError
from hardware.flash.firstboot import FOLDER
from hardware.flash.seed import Seed

_FROM_BUNDLE = " from the bundle in it"
_FROM_INDEX = """ from the package index, so the board needs the network
(`coda bundle build --board orin` and `--bundle` do without)"""
_INSTRUCTIONS = """\
# {name}: a Jetson joins its fleet

The folder `{folder}` beside this file holds a token that works once: keep it to yourself, and delete it when the board
has joined.

## 1. Flash the board, with NVIDIA's tools

On an x86-64 Ubuntu computer, with the Jetson Linux release (L4T) of your board unpacked in `Linux_for_Tegra`:

1. Make the first user, so that no screen is needed:
   `sudo ./tools/l4t_create_default_user.sh -u {user} -n {name} --accept-license`
   It makes up a password where none is given, and prints it. Do not give one: a command line is visible to others.
2. Bring the board into recovery mode: off, FC REC to GND (developer kits: hold the button), USB cable, on. `lsusb`
   then shows a device `0955:...`.
3. `sudo ./flash.sh <board> <rootdev>` for internal storage, `sudo ./tools/kernel_flash/l4t_initrd_flash.sh ...` for
   NVMe or USB. NVIDIA's Quick Start lists the words for each board.

A Jetson Nano developer kit boots from an SD card: write NVIDIA's card image with any tool, then go on here.

## 2. Copy the folder over, and run it

    scp -r {folder} {user}@{name}.local:
    ssh -t {user}@{name}.local sudo sh {folder}/first-boot.sh

It installs into /opt/coda{source},
joins the fleet with a key that it makes on the board, and starts `coda-edge.service`. After a failure, such as a
missing network, run it again: it goes on where it was.

## 3. See that it runs

    ssh {user}@{name}.local systemctl status coda-edge
    coda fleet list

Needs Python 3.10 or newer on the board: JetPack 6 has it; JetPack 5 (Ubuntu 20.04) has 3.8, and needs a newer one
first.
"""


def write_folder(directory: Path, seed: Seed) -> list[str]:
    """Write the seed and its instructions into a new folder, private to its owner. Returns the files' names.

    Raises:
        TargetError: If the folder exists.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        raise TargetError(f"{directory} exists; name a new folder") from error
    source = _FROM_BUNDLE if seed.bundle else _FROM_INDEX
    text = _INSTRUCTIONS.format(name=seed.hostname, folder=FOLDER, user=seed.user, source=source)
    files: dict[str, bytes | Path] = {"INSTRUCTIONS.md": text.encode(), **seed.board_files()}
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content.read_bytes() if isinstance(content, Path) else content)
    return sorted(files)
