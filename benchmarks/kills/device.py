"""One device that fetches one blob, in a process that is killed: python -m benchmarks.kills.device CONFIG SHA256 BYTES.

Prints a line of JSON as it starts, and one after each new chunk. With ``--die`` it kills itself with SIGKILL there,
having left the chunk on disk; a fresh process, forked from one that has only imported, then goes on. Without, it waits
for a line on standard input, while whoever started it kills somebody else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig, load_config
from edge.storage.store import Store
from edge.tunnel.fetch import fetch_blob, fetch_published
from edge.tunnel.link import Link
from edge.tunnel.session import Session
from protocol.messages import BlobRef, Message, Pull


class NotingSession(Session):
    """Tells which chunks are asked for."""

    def say(self, message: Message) -> str:
        """Say it, and tell."""
        if isinstance(message, Pull):
            _tell({"event": "asked", "chunks": message.chunks, "chunk_bytes": message.chunk_bytes})
        return super().say(message)

    def read_shared(self, sha256: str, chunks: Sequence[int]) -> None:
        """Read them, and tell."""
        _tell({"event": "asked", "chunks": tuple(chunks)})
        super().read_shared(sha256, chunks)


def main() -> int:
    """Fetch, and die or wait after each chunk."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("sha256")
    parser.add_argument("size_bytes", type=int)
    parser.add_argument("--published", action="store_true", help="by shared topics")
    parser.add_argument("--die", action="store_true", help="after each new chunk")
    asked = parser.parse_args()
    config, ref = load_config(asked.config), BlobRef(asked.sha256, asked.size_bytes)
    if not asked.die:
        return _fetch(config, ref, asked.published, _wait)
    while True:
        child = os.fork()
        if child == 0:
            os._exit(_fetch(config, ref, asked.published, _die))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)


def _fetch(config: EdgeConfig, ref: BlobRef, published: bool, after_chunk: Callable[[Store, BlobRef], None]) -> int:
    with Store(config.state_dir) as store, Link(config) as link:
        _tell({"event": "begun", "have": _have(store, ref)})
        session = NotingSession(link, store, lambda _event: None, config.timeout_s)
        fetch = fetch_published if published else fetch_blob
        fetch(session, store, ref, lambda here, total: after_chunk(store, ref) if here < total else None)
        _tell({"event": "whole"})
    return 0


def _have(store: Store, ref: BlobRef) -> list[int]:
    """The chunks that are on disk."""
    chunk_bytes = store.blobs.begun_with(ref)
    if chunk_bytes is None:
        return []
    with store.blobs.partial(ref, chunk_bytes) as partial:
        return [index for index in range(partial.have.size) if index in partial.have]


def _die(_store: Store, _ref: BlobRef) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wait(store: Store, ref: BlobRef) -> None:
    _tell({"event": "chunk", "have": _have(store, ref)})
    sys.stdin.readline()


def _tell(event: dict[str, Any]) -> None:
    os.write(1, (json.dumps(event) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
