"""What a device is doing and has done, read beside its service; and starting it afresh."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig
from edge.errors import StoreError
from edge.health import disk
from edge.local_api.ranker import version_of
from edge.round.report import software_version
from edge.scheduling.clock import clock_fault
from edge.scheduling.known_time import KnownTime
from edge.storage.database import Database
from edge.storage.event_store import EventStore
from edge.storage.round_store import RoundStore
from edge.storage.sample_store import SampleStore
from edge.storage.store import alone_in, time_file, wear_file
from edge.storage.wear import load_days, mean_per_day
from edge.tunnel.outbox import Outbox
from edge.updates.release_state import ReleaseFolder


def status(config: EdgeConfig, database: Database) -> dict[str, Any]:
    """The device now, as plain values."""
    rounds, samples = RoundStore(database), SampleStore(database)
    serving, unfinished, records = rounds.serving(), rounds.unfinished(), rounds.records()
    decisions = [line for line in log_lines(config.state_dir) if line.get("event") == "decision"]
    last = records[-1] if records else None
    account = samples.account
    return {
        "device": config.device,
        "fleet": config.fleet,
        "model": None if serving is None else version_of(serving),
        "personal": serving is not None and serving.personal is not None,
        "disk": disk(config.state_dir).detail,
        "samples": samples.count,
        "new_samples": samples.new,
        "samples_made": account.made,
        "samples_retired": {"age": account.age, "size": account.size, "number": account.number},
        "waiting_events": EventStore(database, samples).waiting,
        "outbox_bytes": Outbox(database).size_bytes,
        "rounds": len(records),
        "last_round": None if last is None else summary(last.to_dict()),
        "unfinished_round": None
        if unfinished is None
        else {"round_id": unfinished.round_id, "phase": unfinished.state},
        "policy": decisions[-1] if decisions else None,
        "clock": clock_fault(config, KnownTime(time_file(config.state_dir))),
        "storage_written_bytes_per_day": mean_per_day(load_days(wear_file(config.state_dir))),
        "software": software(config),
    }


def software(config: EdgeConfig) -> dict[str, Any]:
    """The release that runs, None for what the device was flashed with; and how far or how well the last update went.

    ``version`` is this program's own, which is the flashed one where it was not started by the service.
    """
    folder = ReleaseFolder(config.state_dir)
    state = folder.read()
    update = {**state.last, "stage": state.stage} if state.last or state.stage else None
    return {"release": folder.current(), "version": software_version(), "update": update}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """A round's record on one line."""
    return {
        "round_id": record["round_id"],
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record["started_unix_s"])),
        "task_version": record["task_version"],
        "decision": record["outcome"]["decision"],
        "reason": record["outcome"]["reason"],
        "elapsed_s": round(sum(phase["elapsed_s"] for phase in record["phases"]), 3),
    }


def log_lines(state_dir: Path) -> Iterator[dict[str, Any]]:
    """The event log, oldest first; a line that a power cut spoilt is left out.

    Raises:
        PermissionError: If the log is another user's.
    """
    for name in ("events.1.jsonl", "events.jsonl"):
        try:
            text = (state_dir / name).read_text(encoding="utf-8", errors="replace")
        except PermissionError:
            raise
        except OSError:
            continue
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict) and isinstance(value.get("unix_s"), (int, float)):
                yield value


def reset(config: EdgeConfig) -> int:
    """Delete all that the device remembers; its certificate and configuration stay. Returns how many files went.

    Raises:
        StoreBusyError: If the service runs.
        StoreError: If a file cannot be deleted.
    """
    with alone_in(config.state_dir):
        # Also what an update keeps of the user while its release is on trial.
        patterns = ("device.db*", "events*.jsonl", "blobs/*", "releases/device.*", "releases/canary.*")
        files = [path for pattern in patterns for path in config.state_dir.glob(pattern)]
        for path in files:
            try:
                path.unlink()
            except OSError as error:
                raise StoreError(f"device store {path}: {error.strerror}") from error
    return len(files)
