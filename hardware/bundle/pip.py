"""pip, run as a program of its own and made to choose wheels for another machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hardware.bundle.boards import Target
from hardware.errors import BundleError

# `pip download --platform --python-version` chooses wheels for another machine, but asks this one what a requirement's
# markers say. A dependency for the other machine alone would be missing, and no pip up to 26 has an option for it.
_FOR_ANOTHER_MACHINE = """
import json, sys
from pip._vendor.packaging import markers
from pip._internal.cli.main import main
answers = markers.default_environment() | json.loads(sys.argv[1])
markers.default_environment = lambda: answers
sys.exit(main(sys.argv[2:]))
"""


def download(target: Target, what: Sequence[str | Path], folder: Path, *, indexes: Sequence[str] = ()) -> None:
    """Download wheels for a target into a folder.

    Args:
        target: For which machine.
        what: pip's arguments: requirements, wheels, or ``-r`` and a file.
        folder: Where they go.
        indexes: Package indexes besides those that pip is set up with.

    Raises:
        BundleError: If there is no wheel of something, or it has another digest than is asked for.
    """
    command = ["download", "--disable-pip-version-check", "--quiet", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={target.python}", f"--dest={folder}"]
    command += [f"--platform={tag}" for tag in target.platforms]
    command += [f"--extra-index-url={url}" for url in indexes]
    command = [sys.executable, "-c", _FOR_ANOTHER_MACHINE, json.dumps(target.environment), *command, *map(str, what)]
    environment = {**os.environ, "PIP_NO_INPUT": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"{target.name}: {_reason(done.stderr, target)}")


def _reason(said: str, target: Target) -> str:
    missing = re.search(r"No matching distribution found for (.+)", said)
    if missing:
        builds = "piwheels builds wheels for 32-bit ARM" if target.machine == "armv7l" else "where an index has one"
        return (
            f"no wheel of {missing[1]} for {target.machine}, Python {target.python}, glibc 2.{target.glibc_minor}. "
            f"{builds}: name its address with --extra-index-url, or in PIP_EXTRA_INDEX_URL"
        )
    changed = re.search(r"DO NOT MATCH THE HASHES.*?\n\s+(\S+==\S+|\S+ from \S+)", said, re.S)
    if changed:
        return f"{changed[1]} is not the file that was locked; trust neither before you know why"
    lines = (
        [line for line in said.strip().splitlines() if "ERROR" in line] or said.strip().splitlines() or ["no output"]
    )
    return f"pip failed: {lines[-1]}"
