"""What Alembic runs to migrate: always on the connection, and in the transaction, that the server hands it."""

from __future__ import annotations

from alembic import context

from icp_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes tables by copying them.
    render_as_batch=True,
    # DDL belongs to the caller's transaction, on SQLite too: a kill in the middle leaves the schema as it was.
    transactional_ddl=True,
)
context.run_migrations()
