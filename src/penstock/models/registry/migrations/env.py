"""Alembic's environment: a script that Alembic runs, on the connection it is handed.

The caller holds the write lock in a transaction and commits it: a migration happens as a whole or not.
"""

from alembic import context

from penstock.models.registry.tables import METADATA, REVISIONS_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=REVISIONS_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
