"""The device's log: bounded on disk and on the wire, the newest lines first to stay."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from edge.eventlog import EventLog


def _lines(log: EventLog, max_bytes: int = 1 << 20) -> list[int]:
    packed = log.packed(max_bytes)
    assert len(packed) <= max_bytes
    return [json.loads(line)["number"] for line in zlib.decompress(packed).splitlines()]


def test_the_newest_lines_stay(tmp_path: Path) -> None:
    """Two files of bounded size hold the end of the story, in order, also after a restart."""
    for number in range(1000):
        EventLog(tmp_path, 4000).write({"event": "idle", "number": number})
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8000
    kept = _lines(EventLog(tmp_path))
    assert kept == list(range(kept[0], 1000))
    assert len(kept) > 50
    few = _lines(EventLog(tmp_path), 300)
    assert few == list(range(few[0], 1000))


def test_progress_is_not_kept(tmp_path: Path) -> None:
    """There would be nothing else."""
    log = EventLog(tmp_path)
    log.write({"event": "progress", "number": 1})
    log.write({"event": "phase", "number": 2})
    assert _lines(log) == [2]
    assert _lines(EventLog(tmp_path / "absent")) == []


def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    """What cannot be written is left out."""
    EventLog(tmp_path / "absent").write({"event": "idle"})
