"""A bundle: the same bytes every time, with a bill of materials, installed from nothing but itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hardware.bundle import lock
from hardware.bundle.build import Built, build, own_wheel
from hardware.errors import BundleError
from hardware.flash.seed import BUNDLE, Seed, bundle_files
from tests.bundle.conftest import BOARD, Index
from tests.coda.running import coda


def _unpacked(built: Built, folder: Path) -> Path:
    with tarfile.open(built.path) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            folder.mkdir(exist_ok=True)
            (folder / entry.name).write_bytes(file.read())
    return folder


def test_built_twice_it_is_the_same(built: Built, index: Index, tmp_path: Path) -> None:
    """Archive and bill of materials, to the byte, wherever it is built; and what is said of the archive is so."""
    lock.write(BOARD, lock.resolve(BOARD, index.own), tmp_path)
    again = build(BOARD, index.own, tmp_path / "again", locks=tmp_path)
    data = built.path.read_bytes()
    assert again.path.read_bytes() == data
    assert again.path.with_suffix(".cdx.json").read_bytes() == built.path.with_suffix(".cdx.json").read_bytes()
    assert (built.sha256, built.archive_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    with tarfile.open(built.path) as tar:
        entries = tar.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(entry.uid, entry.gid, entry.mode, entry.mtime) for entry in entries} == {(0, 0, 0o644, entries[0].mtime)}


def test_its_moment_can_be_set(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SOURCE_DATE_EPOCH, as reproducible-builds.org has it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    lock.write(BOARD, lock.resolve(BOARD, index.own), tmp_path)
    made = build(BOARD, index.own, tmp_path / "out", locks=tmp_path)
    with tarfile.open(made.path) as tar:
        assert {entry.mtime for entry in tar} == {1700000000}


def test_our_own_wheel_built_twice_is_the_same() -> None:
    """From the same checkout, wherever it is put."""
    with own_wheel() as first, own_wheel() as second:
        assert first.path != second.path
        assert first.sha256 == second.sha256


def test_no_wheel_is_built_without_a_checkout(tmp_path: Path) -> None:
    """An installed CoDA Edge cannot; it says what it takes."""
    with pytest.raises(BundleError, match="no checkout"), own_wheel(tmp_path):
        pass


def test_it_installs_from_itself_alone(built: Built, tmp_path: Path) -> None:
    """As the first boot does: no index, every digest checked. The installer's own wheel is there and stays outside."""
    folder = _unpacked(built, tmp_path / "bundle")
    (folder / next(folder.glob("numbers_64*")).name).unlink()  # for the board's processor alone
    asked = [line for line in (folder / "requirements.txt").read_text().splitlines() if "numbers-64" not in line]
    (folder / "requirements.txt").write_text("\n".join(asked))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(folder), "--require-hashes"]
    command += ["--no-deps", "--target", str(tmp_path / "site"), "-r", str(folder / "requirements.txt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in (tmp_path / "site").glob("*.dist-info")}
    assert installed == {f"{one}.dist-info" for one in ("coda_edge-0.1.0", "link-2.1", "runtime-1.0", "wire-1.0")}
    assert list(folder.glob("pip-*.whl"))


def test_the_bill_of_materials_meets_its_schema_and_names_every_wheel(built: Built, tmp_path: Path) -> None:
    """CycloneDX 1.6: name, version, licence, digest of the file in the bundle, and what needs it."""
    folder = _unpacked(built, tmp_path / "bundle")
    text = (folder / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    components = [bill["metadata"]["component"], *bill["components"]]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.whl")}
    assert {one["hashes"][0]["content"] for one in components} == digests
    by_name = {one["name"]: one for one in components}
    assert by_name["link"]["purl"] == "pkg:pypi/link@2.1"
    assert by_name["link"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert by_name["numbers-64"]["licenses"] == [{"license": {"name": "BSD"}}]
    assert by_name["pip"]["scope"] == "excluded"
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert needs["pkg:pypi/coda-edge@0.1.0"] == [
        "pkg:pypi/link@2.1",
        "pkg:pypi/numbers-64@1.0",
        "pkg:pypi/runtime@1.0",
    ]
    assert needs["pkg:pypi/link@2.1"] == ["pkg:pypi/wire@1.0"]
    assert built.path.with_suffix(".cdx.json").read_text() == text


def test_what_it_is_for_is_said_in_it(built: Built, tmp_path: Path) -> None:
    """For programs: format, version, and the system that it runs on."""
    said = json.loads((_unpacked(built, tmp_path / "bundle") / "bundle.json").read_text())
    assert said["format"] == 1
    assert (said["version"], said["target"]) == ("0.1.0", "bookworm-cp311-aarch64")
    assert (said["system"], said["python"], said["machine"]) == ("bookworm", "3.11", "aarch64")
    assert (said["glibc"], said["installed_bytes"]) == ("2.36", built.installed_bytes)


def test_a_card_takes_it(built: Built) -> None:
    """`coda flash --bundle` puts it where the first boot looks."""
    seed = Seed("pi-1", b"", "a token", "i", bundle=bundle_files(built.path))
    assert seed.board_files()[f"{BUNDLE}/{built.path.name}"] == built.path


def test_the_commands_speak_plainly(tmp_path: Path) -> None:
    """Boards are listed; what cannot be built is one line and exit code 1."""
    listed = coda("bundle", "boards")
    assert listed.returncode == 0
    assert "pizero2" in listed.stdout
    refused = coda("bundle", "build", "--board", "xavier", "--out", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "Python 3.8" in refused.stderr
