"""Every table of the cloud's database, as it is now; `migrations` says how a database comes to have them.

Times are Unix seconds, ``*_s``; digests are hexadecimal SHA-256.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)  # fmt: skip

METADATA = MetaData()

# SQLite numbers rows by itself only in a column of this type.
NUMBER = BigInteger().with_variant(Integer, "sqlite")
PLAIN = JSON(none_as_null=True)  # plain values, JSON at heart

BLOB = Table(
    "blob",
    METADATA,
    Column("sha256", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("expires_s", Double),  # NULL: never
)
Index("blob_by_expiry", BLOB.c.expires_s)

MODEL = Table(
    "model",
    METADATA,
    Column("version", NUMBER, primary_key=True),
    Column("published_s", Double, nullable=False),
    Column("features", PLAIN, nullable=False),
    Column("recommender", Text, nullable=False),
    Column("classifier", Text, nullable=False),
    Column("lineage", PLAIN, nullable=False),
    Column("rows", PLAIN),
    sqlite_autoincrement=True,
)

STAGE = Table(
    "stage",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("version", NUMBER, ForeignKey("model.version"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("since_s", Double, nullable=False),
    Column("live_before", NUMBER),  # the model that was live until then, where this one went live
    Column("reason", Text, nullable=False, server_default=text("''")),
    sqlite_autoincrement=True,
)
Index("stage_by_version", STAGE.c.version, STAGE.c.number)
Index("stage_by_stage", STAGE.c.stage, STAGE.c.number)

TASK = Table(
    "task",
    METADATA,
    Column("version", NUMBER, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
)

ASSIGNMENT = Table(
    "assignment",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("version", NUMBER, nullable=False),
)

DEVICE = Table(
    "device",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("seen_s", Double, nullable=False),
    Column("online", Boolean),
    Column("hello", PLAIN),
)

REPORT = Table(
    "report",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("received_s", Double, nullable=False),
    Column("round_id", Text, nullable=False),
    Column("task_version", BigInteger, nullable=False),
    Column("record", PLAIN, nullable=False),
)
Index("report_by_time", REPORT.c.received_s)

DATA_USE = Table(
    "data_use",
    METADATA,
    Column("day", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("payload_up", BigInteger, nullable=False),
    Column("payload_down", BigInteger, nullable=False),
    Column("mqtt_up", BigInteger, nullable=False),
    Column("mqtt_down", BigInteger, nullable=False),
    Column("tcp_up", BigInteger),
    Column("tcp_down", BigInteger),
)

OFFER = Table(
    "offer",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("letter", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunk_bytes", BigInteger, nullable=False),
    Column("offered_s", Double, nullable=False),
    Column("done", Boolean, nullable=False, server_default=false()),
)

PIECE = Table(
    "piece",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

LOG_REQUEST = Table(
    "request",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("device", Text, nullable=False),
    Column("asked_s", Double, nullable=False),
    Column("sent", Boolean, nullable=False, server_default=false()),
    Column("answered", Boolean, nullable=False, server_default=false()),
)

ROLLOUT = Table(
    "rollout",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("target", Text, nullable=False),
    Column("metadata_sha256", Text, nullable=False),
    Column("metadata_bytes", BigInteger, nullable=False),
    Column("bundle_sha256", Text, nullable=False),
    Column("cohort", PLAIN, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("made_s", Double, nullable=False),
    sqlite_autoincrement=True,
)

TOLD = Table(
    "told",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("number", NUMBER, nullable=False),
    Column("offered", Boolean, nullable=False),
)

OUTCOME = Table(
    "outcome",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("running", Text, nullable=False),
    Column("received_s", Double, nullable=False),
)

TAKEN_OVER = Table(
    "taken_over",
    METADATA,
    Column("file", Text, primary_key=True),  # of before, in one folder of one machine
    Column("taken_s", Double, nullable=False),
)
