"""What a device is doing and has done, read beside its service; and starting it afresh."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig
from edge.errors import EdgeError, StoreError
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
from profiling.errors import ProfilingError
from protocol.errors import ProtocolError

# What reading a state raises that another program wrote, or a failing disk: no part of it hides the others.
_DAMAGED = (EdgeError, ProtocolError, ProfilingError, ArithmeticError, LookupError, TypeError, ValueError)


def status(config: EdgeConfig, database: Database) -> dict[str, Any]:
    """The device now, as plain values; what cannot be read is None, and `damaged` says why, by name."""
    damaged: dict[str, str] = {}
    found: dict[str, Any] = {"device": config.device, "fleet": config.fleet}
    for read in (_models, _samples, _waiting, _rounds, _machine):
        for name, value in read(config, database).items():
            try:
                found[name] = value()
            except _DAMAGED as error:
                found[name], damaged[name] = None, str(error) or type(error).__name__
    return {**found, "damaged": damaged}


_Parts = dict[str, Callable[[], Any]]


def _models(_config: EdgeConfig, database: Database) -> _Parts:
    serving = RoundStore(database).serving

    def model() -> str | None:
        now = serving()
        return None if now is None else version_of(now)

    def personal() -> bool:
        now = serving()
        return now is not None and now.personal is not None

    return {"model": model, "personal": personal}


def _samples(_config: EdgeConfig, database: Database) -> _Parts:
    samples = SampleStore(database)

    def retired() -> dict[str, int]:
        account = samples.account
        return {"age": account.age, "size": account.size, "number": account.number}

    return {
        "samples": lambda: samples.count,
        "new_samples": lambda: samples.new,
        "samples_made": lambda: samples.account.made,
        "samples_retired": retired,
    }


def _waiting(_config: EdgeConfig, database: Database) -> _Parts:
    return {
        "waiting_events": lambda: EventStore(database, SampleStore(database)).waiting,
        "outbox_bytes": lambda: Outbox(database).size_bytes,
    }


def _rounds(_config: EdgeConfig, database: Database) -> _Parts:
    rounds = RoundStore(database)

    def last() -> dict[str, Any] | None:
        records = rounds.records()
        return summary(records[-1].to_dict()) if records else None

    def unfinished() -> dict[str, str] | None:
        stored = rounds.unfinished()
        return None if stored is None else {"round_id": stored.round_id, "phase": stored.state}

    return {"rounds": lambda: len(rounds.records()), "last_round": last, "unfinished_round": unfinished}


def _machine(config: EdgeConfig, _database: Database) -> _Parts:
    return {
        "disk": lambda: disk(config.state_dir).detail,
        "policy": lambda: _last_decision(config.state_dir),
        "clock": lambda: clock_fault(config, KnownTime(time_file(config.state_dir))),
        "storage_written_bytes_per_day": lambda: mean_per_day(load_days(wear_file(config.state_dir))),
        "software": lambda: software(config),
    }


def _last_decision(state_dir: Path) -> dict[str, Any] | None:
    found = [line for line in log_lines(state_dir) if line.get("event") == "decision"]
    whole = [line for line in found if isinstance(line.get("reasons"), dict) and "act" in line]
    return whole[-1] if whole else None


def software(config: EdgeConfig) -> dict[str, Any]:
    """The release that runs, None for what the device was flashed with; and how far or how well the last update went.

    ``version`` is this program's own, which is the flashed one where it was not started by the service.

    Raises:
        StoreError: If what came of the last update is not whole.
    """
    folder = ReleaseFolder(config.state_dir)
    state = folder.read()
    if state.last and (lost := sorted({"target", "outcome", "reason"} - set(state.last))):
        raise StoreError(f"{folder.path / 'state.json'}: what came of the last update lacks {', '.join(lost)}")
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
