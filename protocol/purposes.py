"""What a message is for: the few purposes by which both sides account for their bytes."""

from __future__ import annotations

from protocol.messages import (
    Chunk,
    Collect,
    Contribution,
    Forget,
    Locate,
    Located,
    Log,
    LogRequest,
    Match,
    Offer,
    Piece,
    Pull,
    Query,
    Release,
    Report,
    Rows,
    RowsRequest,
    Updated,
)
from protocol.topics import ROOT, SHARED

MODEL = "model"  # model files, patches over them, rows of their tables
SAMPLES = "samples"  # the answer to a question for samples, with or without them, and they down; contributed ones up
QUERY = "query"  # the question for samples
REPORT = "report"
SOFTWARE = "software"  # releases, and the metadata that vouch for them
CONTROL = "control"  # tasks, greetings, presence, acknowledgements, refusals, and what MQTT and TLS say for themselves
PURPOSES = (MODEL, SAMPLES, QUERY, REPORT, SOFTWARE, CONTROL)

TRANSFER_KINDS = frozenset({Pull.kind, Chunk.kind, Locate.kind, Located.kind})
_OF_KIND = {
    Query.kind: QUERY,
    Match.kind: SAMPLES,
    Rows.kind: MODEL,
    RowsRequest.kind: MODEL,
    Contribution.kind: SAMPLES,
    Forget.kind: SAMPLES,
    Report.kind: REPORT,
    Log.kind: REPORT,
    LogRequest.kind: REPORT,
    Updated.kind: SOFTWARE,
    Release.kind: SOFTWARE,
    # What is large enough to be offered is contributed samples; a log, rarely.
    Offer.kind: SAMPLES,
    Collect.kind: SAMPLES,
    Piece.kind: SAMPLES,
}


def purpose_of(topic: str, transfer: str) -> str:
    """What a message under ``topic`` is for; ``transfer`` says what that is for a part of a blob."""
    parts = topic.split("/", 6)
    if not topic.startswith(f"{ROOT}/") or len(parts) != 6:
        return CONTROL
    if parts[4] in ("up", "down"):
        return transfer if parts[5] in TRANSFER_KINDS else _OF_KIND.get(parts[5], CONTROL)
    return MODEL if parts[3] == SHARED else CONTROL
