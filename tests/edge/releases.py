"""Releases for tests: real wheels of this package, with one file changed, that install in a second.

What the package needs (numpy, a TFLite runtime, ...) is not copied into each: a second wheel holds a ``.pth`` file that
points to this environment's packages. On a board a bundle brings all of them.
"""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import io
import random
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "protocol", "profiling", "hardware")
Edits = Mapping[str, tuple[str, str]]


def bundle(path: Path, version: str, edits: Edits | None = None, *, whole: bool = True, filler_bytes: int = 0) -> Path:
    """Write a bundle of this package.

    Args:
        path: The tar's.
        version: What the release says that it is.
        edits: What to replace by what, once, in which file of the package.
        whole: Whether the wheels have the hashes that the requirements state.
        filler_bytes: Of something that no device installs, to make it travel longer.
    """
    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for name in PACKAGES for file in _sources(name)}
    for name, (old, new) in (edits or {}).items():
        text = files[name].decode()
        assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times"
        files[name] = text.replace(old, new).encode()
    paths = f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n".encode()
    wheels = {
        f"coda_edge-{version}-py3-none-any.whl": _wheel("coda_edge", version, files),
        "test_packages-1-py3-none-any.whl": _wheel("test_packages", "1", {"test_packages.pth": paths}),
    }
    lines = []
    for name, content in wheels.items():
        project, number, _ = name.split("-", 2)
        digest = hashlib.sha256(content if whole else b"another").hexdigest()
        lines.append(f"{project.replace('_', '-')}=={number} --hash=sha256:{digest}\n")
    pip = next(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    contents = {**wheels, pip.name: pip.read_bytes(), "requirements.txt": "".join(lines).encode()}
    contents["../../sbom.json"] = random.Random(0).randbytes(filler_bytes)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"bundle/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _sources(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def _wheel(name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    info = f"{name}-{version}.dist-info"
    tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    content = {**files, f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": tags.encode()}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in {**content, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
