"""Tables of tasks by cohort: what is laid over the task of everyone, for whom, and what came of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Table, Text, text

from cloud_broker.storage.tables import METADATA, NUMBER, PLAIN, REPORT

# What a task's version came from; one from before this table came from the task of everyone.
TASK_ORIGIN = Table(
    "task_origin",
    METADATA,
    Column("version", NUMBER, primary_key=True, autoincrement=False),
    Column("label", Text, nullable=False),  # see `cloud_broker.tasks.layers`
    Column("digest", Text, nullable=False),  # of the task but for its version
)
Index("task_origin_by_label", TASK_ORIGIN.c.label, TASK_ORIGIN.c.version)

LAYER = Table(
    "layer",
    METADATA,
    Column("number", NUMBER, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("cohort", PLAIN, nullable=False),
    Column("arms", PLAIN, nullable=False),
    Column("plan", PLAIN, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", BigInteger, nullable=False),
    Column("since_s", Double, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    sqlite_autoincrement=True,
)

LAYER_CHANGE = Table(
    "layer_change",
    METADATA,
    Column("change", NUMBER, primary_key=True),
    Column("number", NUMBER, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)

# What a device said of a label's task: the first of a rollout's or an arm's, the last of everyone's.
STANDING = Table(
    "standing",
    METADATA,
    Column("label", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("received_s", Double, nullable=False),
)
Index("standing_by_verdict", STANDING.c.label, STANDING.c.verdict)

DEVICE_TAG = Table(
    "device_tag",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("report_by_task", REPORT.c.task_version)
