"""What Alembic runs for every step: on the connection, and in the transaction, that `storage.migrating` opened."""

from __future__ import annotations

from alembic import context

from cloud_broker.storage.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
