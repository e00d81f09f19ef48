"""The schema's versions, for Alembic; `gateway.database.migration` runs them."""
