"""The messages, one class each, and the kind that each travels under.

A device says (``up``): Presence, Hello, Query, RowsRequest, Locate, Pull, Contribution, Forget, Report, Log, Offer,
Piece, Updated.
The cloud says (``down``): Task, Release, Match, Rows, Located, Chunk, Accepted, Refusal, Busy, Collect, LogRequest.
"""

from __future__ import annotations

from protocol.message import MAX_BASES, MAX_PULL_CHUNKS, MAX_TARGET_LENGTH, BlobRef, ChunkData, Message
from protocol.messages_down import (
    MAX_RETRY_AFTER_S,
    Accepted,
    Busy,
    Chunk,
    Collect,
    Located,
    LogRequest,
    Match,
    Patch,
    Refusal,
    RefusalCode,
    Release,
    Rows,
    Task,
)
from protocol.messages_pull import Locate, Offer, Piece, Pull, RowsRequest
from protocol.messages_up import (
    MAX_REASON_LENGTH,
    Contribution,
    Forget,
    Hello,
    Log,
    Presence,
    Query,
    Report,
    Updated,
)
from protocol.topics import Direction

__all__ = [
    "MAX_BASES",
    "MAX_PULL_CHUNKS",
    "MAX_REASON_LENGTH",
    "MAX_RETRY_AFTER_S",
    "MAX_TARGET_LENGTH",
    "MESSAGES",
    "Accepted",
    "BlobRef",
    "Busy",
    "Chunk",
    "ChunkData",
    "Collect",
    "Contribution",
    "Forget",
    "Hello",
    "Locate",
    "Located",
    "Log",
    "LogRequest",
    "Match",
    "Message",
    "Offer",
    "Patch",
    "Piece",
    "Presence",
    "Pull",
    "Query",
    "Refusal",
    "RefusalCode",
    "Release",
    "Report",
    "Rows",
    "RowsRequest",
    "Task",
    "Updated",
]

MESSAGES: dict[tuple[Direction, str], type[Message]] = {
    (message.direction, message.kind): message
    for message in (
        Presence, Hello, Query, RowsRequest, Locate, Pull, Contribution, Forget, Report, Log, Offer, Piece,
        Updated, Release, Task, Match, Rows, Located, Chunk, Accepted, Refusal, Busy, Collect,
        LogRequest,
    )
}  # fmt: skip
