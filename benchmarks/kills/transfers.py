"""A transfer in which somebody is killed after every single chunk."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kills.fleet import FLEET, Fleet
from cloud_broker.models.registry import Registry
from protocol.messages import BlobRef
from protocol.topics import CHUNK_BYTES

__all__ = ["FLEET", "Transfer", "kill_at_every_chunk", "publish_blob"]


@dataclass(frozen=True)
class Transfer:
    """What a transfer came to.

    Attributes:
        killed: Who was.
        kills: How often.
        chunks: Chunks of the blob.
        asked: Chunks that were asked for, over all incarnations.
        asked_again: Of these, chunks that were on disk already: what a resume must not do.
        whole: Whether the blob arrived with its digest.
    """

    killed: str
    kills: int
    chunks: int
    asked: int
    asked_again: int
    whole: bool


def publish_blob(cloud_dir: Path, size_bytes: int) -> BlobRef:
    """Put a blob of noise among a cloud's published files."""
    with closing(Registry(cloud_dir)) as registry:
        return registry.blobs.put(random.Random(size_bytes).randbytes(size_bytes))


def kill_at_every_chunk(fleet: Fleet, ref: BlobRef, killed: str, *, published: bool = False) -> Transfer:
    """Fetch a blob while ``killed`` (device, cloud or broker) is killed after each new chunk.

    Args:
        fleet: Running.
        ref: What to fetch.
        killed: Whom to kill.
        published: Whether the device reads shared topics, instead of asking the cloud.
    """
    name = f"{killed}-{'shared' if published else 'pulled'}"
    config = fleet.device(name)
    command = [sys.executable, "-m", "benchmarks.kills.device", str(config), ref.sha256, str(ref.size_bytes)]
    command += ["--published"] * published + ["--die"] * (killed == "device")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as device:
        found = _follow(fleet, device, killed)
        code = device.wait()
    blob = fleet.folder / name / "state" / "blobs" / ref.sha256
    whole = code == 0 and hashlib.sha256(blob.read_bytes()).hexdigest() == ref.sha256
    return Transfer(killed, found.kills, -(-ref.size_bytes // CHUNK_BYTES), found.asked, found.asked_again, whole)


@dataclass
class _Found:
    kills: int = 0
    asked: int = 0
    asked_again: int = 0


def _follow(fleet: Fleet, device: subprocess.Popen[str], killed: str) -> _Found:
    assert device.stdout is not None
    assert device.stdin is not None
    found, have, begun = _Found(), set[int](), 0
    for line in device.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "begun":
            have, begun = set(event["have"]), begun + 1
        elif event["event"] == "asked":
            found.asked += len(event["chunks"])
            found.asked_again += len(have.intersection(event["chunks"]))
        elif event["event"] == "chunk":
            have = set(event["have"])
            fleet.restart(killed)
            found.kills += 1
            device.stdin.write("go\n")
            device.stdin.flush()
    if killed == "device":
        found.kills = begun - 1
    return found
