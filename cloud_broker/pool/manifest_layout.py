"""The tables of a pool's manifest, and what a pool of an earlier version lacks of them."""

from __future__ import annotations

from pathlib import Path

from cloud_broker.storage.small_database import Database

_TABLES = """
CREATE TABLE IF NOT EXISTS pool (id INTEGER PRIMARY KEY CHECK (id = 1), features TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS contributor (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, agreement INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS contribution (
    id INTEGER PRIMARY KEY, contributor INTEGER NOT NULL, message_id TEXT NOT NULL, samples INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    first_row INTEGER, newest_s INTEGER NOT NULL DEFAULT 0, received_s REAL NOT NULL DEFAULT 0, reason TEXT,
    UNIQUE (contributor, message_id)
);
CREATE TABLE IF NOT EXISTS forgotten (
    contributor INTEGER NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY (contributor, message_id)
);
CREATE TABLE IF NOT EXISTS erasing (
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, contributor INTEGER NOT NULL DEFAULT 0,
    samples INTEGER NOT NULL DEFAULT 0, first_row INTEGER
);
"""
_INDICES = """
CREATE INDEX IF NOT EXISTS contribution_by_row ON contribution (first_row);
CREATE INDEX IF NOT EXISTS contribution_by_end ON contribution (segment, offset) WHERE length > 0;
CREATE INDEX IF NOT EXISTS contribution_by_time ON contribution (newest_s) WHERE length > 0;
CREATE INDEX IF NOT EXISTS contribution_held ON contribution (id) WHERE reason IS NOT NULL AND length > 0;
"""
# Columns that came later, by table: a pool of an earlier version gets them when it is opened.
_LATER = {
    "contribution": {
        "first_row": "INTEGER",
        "newest_s": "INTEGER NOT NULL DEFAULT 0",
        "received_s": "REAL NOT NULL DEFAULT 0",
        "reason": "TEXT",
    },
    "contributor": {"agreement": "INTEGER NOT NULL DEFAULT 0"},
    "erasing": {
        "contributor": "INTEGER NOT NULL DEFAULT 0",
        "samples": "INTEGER NOT NULL DEFAULT 0",
        "first_row": "INTEGER",
    },
}


def open_listed(path: Path) -> Database:
    """Open the manifest's file in the present layout, or create it; to be called with the pool's lock held.

    Raises:
        StorageError: If it is not a database that can be used.
    """
    opened = Database(path, _TABLES)
    with opened.transaction() as database:
        for table, columns in _LATER.items():
            there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            for name, form in columns.items():
                if name not in there:
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {form}")
        for statement in _INDICES.strip().split(";\n"):
            database.execute(statement)
    return opened
