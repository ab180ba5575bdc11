"""The tables of the device's SQLite file, as steps that lead from an empty file to the present layout."""

from __future__ import annotations

from profiling.data_use import TABLE as DATA_USE_TABLE

APPLICATION_ID = 0x434F4441  # "CODA" in the file's header tells our database from another program's

_FIRST = """
CREATE TABLE schemas (digest TEXT PRIMARY KEY, features TEXT NOT NULL);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    schema_digest TEXT NOT NULL REFERENCES schemas,
    samples INTEGER NOT NULL,
    contributed INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE TABLE rounds (
    round_id TEXT PRIMARY KEY,
    task_version INTEGER NOT NULL,
    task BLOB NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    started_unix_s REAL NOT NULL,
    record TEXT
);
CREATE TABLE artefacts (
    round_id TEXT NOT NULL REFERENCES rounds ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (round_id, name)
);
CREATE TABLE phases (
    id INTEGER PRIMARY KEY,
    round_id TEXT NOT NULL REFERENCES rounds ON DELETE CASCADE,
    record TEXT NOT NULL
);
CREATE TABLE serving (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_sha256 TEXT NOT NULL,
    round_id TEXT NOT NULL,
    activated_unix_s REAL NOT NULL,
    weights BLOB
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    queued_unix_s REAL NOT NULL
);
"""
_ROWS = """
CREATE TABLE table_rows (
    number INTEGER PRIMARY KEY, version TEXT NOT NULL, id INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (version, id)
);
ALTER TABLE serving ADD COLUMN rows BLOB;
"""
_DATA_USE = f"""
{DATA_USE_TABLE}
CREATE TABLE outbox_losses (
    kind TEXT NOT NULL, why TEXT NOT NULL, messages INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, why)
) WITHOUT ROWID;
"""
_EVENTS = """
CREATE TABLE event_ids (number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE);
CREATE TABLE waiting_events (number INTEGER PRIMARY KEY, event TEXT NOT NULL);
CREATE TABLE exposures (
    number INTEGER PRIMARY KEY,
    item INTEGER NOT NULL UNIQUE,
    impressions INTEGER NOT NULL,
    label REAL,
    features TEXT NOT NULL
);
CREATE TABLE history (number INTEGER PRIMARY KEY, side TEXT NOT NULL, item INTEGER NOT NULL);
CREATE INDEX history_by_side ON history (side, number);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE batches ADD COLUMN newest_s INTEGER;
"""
_ACCOUNT = """
INSERT INTO counters SELECT 'samples-made', sum(samples) FROM batches HAVING count(*) > 0;
"""
MIGRATIONS: tuple[str, ...] = (
    _FIRST,
    _ROWS,
    _DATA_USE,
    _EVENTS,
    _ACCOUNT,
)  # append only; `user_version` counts those applied
