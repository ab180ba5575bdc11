"""The tables that the cloud's stores had in SQLite files of their own, and the stages of models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PLAIN = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "assignment",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("device"),
    )
    op.create_table(
        "blob",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index("blob_by_expiry", "blob", ["expires_s"])
    op.create_table(
        "data_use",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("payload_up", sa.BigInteger(), nullable=False),
        sa.Column("payload_down", sa.BigInteger(), nullable=False),
        sa.Column("mqtt_up", sa.BigInteger(), nullable=False),
        sa.Column("mqtt_down", sa.BigInteger(), nullable=False),
        sa.Column("tcp_up", sa.BigInteger(), nullable=True),
        sa.Column("tcp_down", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("day", "account", "purpose"),
    )
    op.create_table(
        "device",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_s", sa.Double(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("hello", PLAIN, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "model",
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("published_s", sa.Double(), nullable=False),
        sa.Column("features", PLAIN, nullable=False),
        sa.Column("recommender", sa.Text(), nullable=False),
        sa.Column("classifier", sa.Text(), nullable=False),
        sa.Column("lineage", PLAIN, nullable=False),
        sa.Column("rows", PLAIN, nullable=True),
        sa.PrimaryKeyConstraint("version"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "offer",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("letter", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("chunk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("offered_s", sa.Double(), nullable=False),
        sa.Column("done", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("device", "message_id"),
    )
    op.create_table(
        "outcome",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("running", sa.Text(), nullable=False),
        sa.Column("received_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("device", "number"),
    )
    op.create_table(
        "piece",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device", "message_id", "number"),
    )
    op.create_table(
        "report",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("received_s", sa.Double(), nullable=False),
        sa.Column("round_id", sa.Text(), nullable=False),
        sa.Column("task_version", sa.BigInteger(), nullable=False),
        sa.Column("record", PLAIN, nullable=False),
        sa.PrimaryKeyConstraint("device", "message_id"),
    )
    op.create_index("report_by_time", "report", ["received_s"])
    op.create_table(
        "request",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("asked_s", sa.Double(), nullable=False),
        sa.Column("sent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("answered", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "rollout",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("metadata_sha256", sa.Text(), nullable=False),
        sa.Column("metadata_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("cohort", PLAIN, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("made_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "taken_over",
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("taken_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("file"),
    )
    op.create_table(
        "task",
        sa.Column("version", NUMBER, autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "told",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("offered", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device"),
    )
    op.create_table(
        "stage",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("since_s", sa.Double(), nullable=False),
        sa.Column("live_before", NUMBER, nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["model.version"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("stage_by_stage", "stage", ["stage", "number"])
    op.create_index("stage_by_version", "stage", ["version", "number"])
