"""What is left out of a wheel, and that the rest is what its publisher built."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.bundle.trim import trim, without_symbols
from hardware.bundle.wheel import Wheel
from hardware.errors import BundleError
from tests.bundle.wheels import make_wheel


def _numpy(folder: Path) -> Wheel:
    files = {
        "numpy/__init__.py": b"from numpy import core\n",
        "numpy/core/__init__.py": b"",
        "numpy/core/tests/test_all.py": b"#" * 200_000,
        "numpy/core/include/numpy/all.h": b"",
        "numpy/testing/__init__.py": b"",
    }
    return make_wheel(folder, "numpy", "2.0", files=files)


def test_tests_and_headers_are_left_out_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    """The list of files says what is there, with the digest of each; a build tag tells it from the publisher's."""
    wheel = trim(_numpy(tmp_path / "in"), tmp_path)
    assert wheel.path.name == "numpy-2.0-1trimmed-py3-none-any.whl"
    assert (wheel.name, wheel.version) == ("numpy", "2.0")
    with zipfile.ZipFile(wheel.path) as archive:
        names = archive.namelist()
        rows = list(csv.reader(archive.read("numpy-2.0.dist-info/RECORD").decode().splitlines()))
        for name, digest, size in rows[:-1]:
            found = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", archive.getinfo(name).file_size)
        assert archive.read("numpy/__init__.py") == b"from numpy import core\n"
        assert "Build: 1trimmed\n" in archive.read("numpy-2.0.dist-info/WHEEL").decode()
    assert [row[0] for row in rows] == names
    assert not any("tests/" in name or "include/" in name for name in names)
    assert "numpy/testing/__init__.py" in names


def test_the_same_wheel_is_trimmed_to_the_same_bytes(tmp_path: Path) -> None:
    """Whenever, and wherever."""
    made = _numpy(tmp_path / "in")
    (tmp_path / "second").mkdir()
    assert trim(made, tmp_path).sha256 == trim(made, tmp_path / "second").sha256


def test_a_publishers_own_build_tag_is_kept_in_ours(tmp_path: Path) -> None:
    """A wheel that was built twice still says which of them it comes from, and its name is still a wheel's."""
    made = _numpy(tmp_path / "in")
    tagged = Wheel(made.path.rename(made.path.with_name("numpy-2.0-3-py3-none-any.whl")))
    wheel = trim(tagged, tmp_path)
    assert wheel.path.name == "numpy-2.0-3trimmed-py3-none-any.whl"
    assert (wheel.name, wheel.version) == ("numpy", "2.0")


def test_where_little_is_gained_the_publishers_file_is_kept(tmp_path: Path) -> None:
    """Byte for byte, under its own name."""
    made = make_wheel(tmp_path / "in", "numpy", files={"numpy/tests/small.py": b"#"})
    kept = trim(made, tmp_path)
    assert (kept.path.name, kept.sha256) == (made.path.name, made.sha256)


def test_a_library_without_symbols_works(tmp_path: Path) -> None:
    """A real extension module, cut, is loaded and used by a process of its own; cut again it stays as it is."""
    found = importlib.util.find_spec("msgpack._cmsgpack")
    if found is None or found.origin is None or sys.platform != "linux":
        pytest.skip("msgpack has no compiled module here")
    library = Path(found.origin)
    whole = library.read_bytes()
    cut = without_symbols(whole + b"debug" * 1000)
    assert len(cut) <= len(whole)
    assert without_symbols(cut) == cut
    shutil.copytree(library.parent, tmp_path / "msgpack")
    (tmp_path / "msgpack" / library.name).write_bytes(cut)
    code = "import msgpack._cmsgpack as m; print(m.unpackb(m.Packer().pack([1, 'a'])), m.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == f"[1, 'a'] {tmp_path / 'msgpack' / library.name}\n", done.stderr


@given(st.binary(max_size=200), st.booleans())
def test_no_other_file_is_touched(data: bytes, like_elf: bool) -> None:
    """Text, other formats and damaged headers come back as they are, or as a beginning of themselves."""
    whole = b"\x7fELF\x02\x01" * like_elf + data
    cut = without_symbols(whole)
    assert len(cut) <= len(whole)
    assert like_elf or cut == whole


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    """By its name, or when it is read."""
    with pytest.raises(BundleError, match="no wheel"):
        Wheel(tmp_path / "numpy.zip")
    broken = tmp_path / "numpy-1.0-py3-none-any.whl"
    broken.write_bytes(b"no archive")
    with pytest.raises(BundleError, match="no wheel with metadata"):
        assert Wheel(broken).metadata
