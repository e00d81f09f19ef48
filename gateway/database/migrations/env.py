"""What Alembic runs: the versions, over the connection it is handed, in one transaction."""

from __future__ import annotations

from alembic import context

from gateway.database.session import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=SCHEMA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
