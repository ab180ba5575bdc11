"""Real wheels of small packages, made on the spot: the format is a ZIP with a list of its files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardware.bundle.wheel import Wheel

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    headers: Sequence[str] = ("License-Expression: MIT",),
    files: Mapping[str, bytes] | None = None,
    tag: str = "py3-none-any",
) -> Wheel:
    """Write a wheel into a folder.

    Args:
        folder: Made where it is missing.
        name: The project's.
        version: Its version.
        requires: What it requires, with markers.
        headers: More lines of its metadata.
        files: What it installs; by default one module.
        tag: Python, ABI and platform that it is for.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = [f"Requires-Dist: {one}" for one in requires]
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers, *needs, ""]
    contents = dict(files if files is not None else {f"{module}/__init__.py": f"VERSION = {version!r}\n".encode()})
    contents[f"{info}/METADATA"] = "\n".join(metadata).encode()
    contents[f"{info}/WHEEL"] = f"{WHEEL}Tag: {tag}\n".encode()
    record = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**contents, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(file), content)  # with a fixed time
    return Wheel(path)
