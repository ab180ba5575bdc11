"""Files that outlive a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hardware.durable import sweep, write_private


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_the_owner_reads_the_newest_whole_content(tmp_path: Path) -> None:
    """Mode 0600 whatever was there before, and nothing is left beside it."""
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert _names(tmp_path) == ["key"]


def test_a_disk_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is told, and neither the old file nor the folder shows a trace of the new one."""
    path = tmp_path / "key"
    write_private(path, b"old")

    def fail(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["key"]


def test_names_are_on_disk_after_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's bytes are synced before it takes its name, the folder after: a rename alone may be lost."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        done.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")
        fsync(handle)

    def note_name(source: Path, target: Path) -> Path:
        done.append("name")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    write_private(tmp_path / "key", b"new")
    assert done == ["file", "name", "folder"]


def test_what_a_kill_left_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    """Unfinished files have names of their own."""
    write_private(tmp_path / "wear.json", b"{}")
    (tmp_path / ".wear.json.abcd1234").write_bytes(b"half")
    (tmp_path / ".complete").touch()
    sweep(tmp_path)
    assert _names(tmp_path) == [".complete", "wear.json"]
