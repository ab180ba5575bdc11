"""A run directory as values: ``summary.json``, and ``rounds.jsonl`` with one round record a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling.errors import RecordError, RunError
from profiling.record import RoundRecord
from profiling.recording import RECORDINGS_FOLDER, Recording, load_recording

SUMMARY_FILE = "summary.json"
ROUNDS_FILE = "rounds.jsonl"
SUMMARY_VERSION = 1
_MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Attributes:
        path: Its directory.
        summary: The values of ``summary.json``.
        rounds: The records of ``rounds.jsonl``, in its order.
        recordings: Raw samples of rounds, where they were kept, in the order of their files' names.
    """

    path: Path
    summary: Mapping[str, Any]
    rounds: tuple[RoundRecord, ...]
    recordings: tuple[Recording, ...] = ()


def load_run(run_dir: Path) -> Run:
    """Read a run directory.

    Raises:
        RunError: If a file is missing, too large, truncated, malformed, or of another schema version.
    """
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: no such run directory; give the directory that a run wrote")
    summary, rounds = _read_summary(run_dir / SUMMARY_FILE), _read_rounds(run_dir / ROUNDS_FILE)
    recordings = [load_recording(path) for path in sorted((run_dir / RECORDINGS_FOLDER).glob("*.jsonl"))]
    return Run(run_dir, summary, rounds, tuple(recordings))


def _read_summary(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path}:{error.lineno}: not JSON, or cut short ({error.msg})") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: expected an object, got {type(values).__name__}")
    version = values.get("schema_version")
    if version != SUMMARY_VERSION:
        raise RunError(f"{path}: schema version {version!r}, this program reads {SUMMARY_VERSION}")
    devices = values.get("devices")
    if not isinstance(devices, list) or not all(isinstance(row, dict) and "device" in row for row in devices):
        raise RunError(f"{path}: 'devices' must be a list of objects that each name a 'device'")
    return values


def _read_rounds(path: Path) -> tuple[RoundRecord, ...]:
    rounds = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rounds.append(RoundRecord.from_dict(json.loads(line)))
        except json.JSONDecodeError as error:
            raise RunError(f"{path}:{number}: not JSON, or cut short ({error.msg})") from error
        except RecordError as error:
            raise RunError(f"{path}:{number}: {error}") from error
    return tuple(rounds)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise RunError(f"{path}: larger than {_MAX_FILE_BYTES >> 20} MiB, which no run writes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; the run did not finish, or this is not a run directory") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text at byte {error.start}") from error
