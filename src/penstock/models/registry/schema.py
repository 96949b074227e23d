"""Brings a registry's database to the schema that this code is written for."""

import threading
from pathlib import Path

from sqlalchemy import Connection, String, column, inspect, select, table

from penstock.core.errors import ConfigurationError
from penstock.models.registry.database import Database
from penstock.models.registry.tables import METADATA, REVISIONS_TABLE

__all__ = ["bring_to_head"]

REVISIONS = ("0001", "0002")
"""All revisions, oldest first, as `migrations/` has them. Known without Alembic, whose import costs more time
and memory than a start that has nothing to migrate should pay."""

_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic's environment is one for the process.
_alembic_in_use = threading.Lock()


def bring_to_head(database: Database) -> None:
    """Migrates the database where it is behind. Any number of processes may do so at once.

    Raises `ConfigurationError` for a database that is newer than the code, or that has other tables under
    the registry's names, and `StorageFailed`.
    """
    with database.reading() as connection:
        if _is_at_head(connection, database.name):
            return
    from alembic import command
    from alembic.config import Config

    with _alembic_in_use, database.writing("its tables were not made") as connection:
        _check_names_free(connection, database.name)
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        # Nothing is left to do where another process did it while this one waited for the lock.
        command.upgrade(config, "head")


def _is_at_head(connection: Connection, name: str) -> bool:
    if not inspect(connection).has_table(REVISIONS_TABLE):
        return False
    version_num = column("version_num", String)
    found = connection.scalars(select(version_num).select_from(table(REVISIONS_TABLE))).all()
    unknown = [revision for revision in found if revision not in REVISIONS]
    if unknown:
        raise ConfigurationError(
            f"{name} is at revision {unknown[0]}, newer than this penstock knows ({REVISIONS[-1]})",
            hint="upgrade penstock, or use the database of this older version",
        )
    return REVISIONS[-1] in found


def _check_names_free(connection: Connection, name: str) -> None:
    inspector = inspect(connection)
    if inspector.has_table(REVISIONS_TABLE):
        return
    taken = sorted(set(inspector.get_table_names()) & set(METADATA.tables))
    if taken:
        raise ConfigurationError(
            f"{name} has tables {', '.join(taken)} that are not the registry's",
            hint="name a database of penstock's own, or a new file",
        )
