"""A wheel without what no device uses: tests, headers, another processor's accelerator, symbols for debuggers.

As published, the wheels of a device take 173 MB installed, 27 MB of it symbols. Nothing else is changed, but the header
of a library, which would point to its symbols. A trimmed wheel has a build tag, so that nobody takes it for the
publisher's.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import struct
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

from hardware.bundle.wheel import Wheel

_TRIMMED = "trimmed"
# By project, patterns of the files that are left out; `*` also stands for `/`.
_LEFT_OUT = {
    "ai-edge-litert": ("*/libLiteRtWebGpuAccelerator.so",),  # no board here has a WebGPU driver, and we use the CPU
    "numpy": ("*/tests/*", "*.a", "*.pyi", "numpy/*core/include/*"),
    "zstandard": ("zstandard/_cffi*", "*.pyi"),  # the backend for PyPy
}
_WORTH_BYTES = 100_000  # below that the publisher's own file is worth more
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_ELF_HEADER_BYTES, _SEGMENT_BYTES = 64, 56


def trim(wheel: Wheel, folder: Path) -> Wheel:
    """Write a trimmed wheel into a folder, or an equal copy where there is little to trim; the same bytes every time.

    Returns:
        The new wheel.
    """
    contents: dict[zipfile.ZipInfo, bytes] = {}
    with zipfile.ZipFile(wheel.path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        for entry in entries:
            if not _is_left_out(wheel.name, entry.filename):
                contents[entry] = without_symbols(archive.read(entry))
        before = sum(entry.file_size for entry in entries)
    if before - sum(map(len, contents.values())) < _WORTH_BYTES:
        copy = folder / wheel.path.name
        copy.write_bytes(wheel.path.read_bytes())
        return Wheel(copy)
    name, version, *build, python, abi, platform = wheel.path.name.split("-")
    tag = f"{build[0] if build else 1}{_TRIMMED}"  # a build tag begins with a digit
    path = folder / "-".join([name, version, tag, python, abi, platform])
    return Wheel(_write(path, contents, tag))


def without_symbols(data: bytes) -> bytes:
    """A 64-bit ELF file without what is behind its last segment: sections that only linkers and debuggers read.

    The program header says what is loaded; the section header is not needed for it and goes too (as ``sstrip`` does).
    Anything else comes back as it is.
    """
    if not data.startswith(_ELF64_LITTLE_ENDIAN) or len(data) < _ELF_HEADER_BYTES:
        return data
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_bytes, count = struct.unpack_from("<HH", data, 54)
    if entry_bytes != _SEGMENT_BYTES or not count or table + count * entry_bytes > len(data):
        return data
    end = max(_ELF_HEADER_BYTES, table + count * entry_bytes)
    for at in range(table, table + count * entry_bytes, entry_bytes):
        offset, file_bytes = struct.unpack_from("<Q16xQ", data, at + 8)
        end = max(end, offset + file_bytes)
    if end >= len(data):
        return data
    header = bytearray(data[:end])
    struct.pack_into("<Q", header, 40, 0)  # where the sections are
    struct.pack_into("<HH", header, 60, 0, 0)  # how many, and which names them
    return bytes(header)


def _is_left_out(project: str, file: str) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in _LEFT_OUT.get(project, ()))


def _write(path: Path, contents: dict[zipfile.ZipInfo, bytes], build_tag: str) -> Path:
    record = next(entry.filename for entry in contents if entry.filename.endswith(".dist-info/RECORD"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = []
        for entry, data in contents.items():
            if entry.filename == record:
                continue
            if entry.filename.endswith(".dist-info/WHEEL"):
                kept = [line for line in data.splitlines() if line and not line.startswith(b"Build:")]
                data = b"\n".join([*kept, f"Build: {build_tag}".encode(), b""])  # noqa: PLW2901
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append((entry.filename, f"sha256={digest}", len(data)))
            archive.writestr(_like(entry), data)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*lines, (record, "", "")])
        archive.writestr(_like(zipfile.ZipInfo(record)), text.getvalue())
    return path


def _like(entry: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """An entry of that name, time and mode, and nothing that depends on where it is written."""
    same = zipfile.ZipInfo(entry.filename, entry.date_time)
    same.external_attr = entry.external_attr or 0o100644 << 16
    same.compress_type = zipfile.ZIP_DEFLATED
    same.create_system = 3  # Unix, whatever this machine is
    return same
