import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from penstock.core.errors import ConfigurationError, StorageFailed
from penstock.models.registry import FolderArtifactStore, Registry, schema
from penstock.models.registry.database import Database
from penstock.models.registry.tables import METADATA, REVISIONS_TABLE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "penstock.db"


def open_registry(url: str) -> None:
    Registry.open(url, FolderArtifactStore(Path("/nowhere"))).close()


def test_the_migrations_make_what_the_tables_say(database_url: str) -> None:
    open_registry(database_url)
    database = Database.open(database_url)
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": REVISIONS_TABLE, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_the_revisions_known_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    found = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS


def test_the_tables_are_portable() -> None:
    for table in METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_the_database_is_set_up_to_keep_what_it_acknowledged(database_url: str) -> None:
    database = Database.open(database_url)
    with database.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}


def test_opening_again_changes_nothing(database_url: str, path: Path) -> None:
    open_registry(database_url)
    before = path.read_bytes()
    open_registry(database_url)
    assert path.read_bytes() == before


def test_folders_are_made(tmp_path: Path) -> None:
    open_registry(f"sqlite:///{tmp_path}/a/100%/penstock.db")
    assert (tmp_path / "a" / "100%" / "penstock.db").exists()


def test_a_newer_database_is_refused(database_url: str, path: Path) -> None:
    open_registry(database_url)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {REVISIONS_TABLE} SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="at revision 9999, newer than") as caught:
        open_registry(database_url)
    assert str(path) in caught.value.message
    assert "upgrade penstock" in str(caught.value.hint)


def test_a_file_that_is_no_database_is_refused_and_left_alone(database_url: str, path: Path) -> None:
    path.write_bytes(b"no database at all\n" * 100)
    with pytest.raises(ConfigurationError, match="is not a database") as caught:
        open_registry(database_url)
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"no database at all\n" * 100


def test_a_database_of_something_else_is_refused_and_left_alone(database_url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE models (anything)")
    with pytest.raises(ConfigurationError, match="has tables models that are not the registry's"):
        open_registry(database_url)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("models",)]


def test_tables_of_other_parts_may_stand_beside(database_url: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE routes (anything)")
    open_registry(database_url)


def test_a_migration_that_fails_leaves_nothing(
    database_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # After the first tables, before the last.
        patched.setattr("alembic.op.create_index", fail)
        with pytest.raises(KeyboardInterrupt):
            open_registry(database_url)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    open_registry(database_url)


@pytest.mark.parametrize(
    "url",
    ["", "penstock.db", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://root:secret@h/d"],
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_registry(url)
    assert "sqlite:///path" in str(caught.value.hint)
    assert "secret" not in str(caught.value)


def test_a_database_that_is_a_folder_is_refused(database_url: str, path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageFailed, match="unable to open") as caught:
        open_registry(database_url)
    assert caught.value.hint is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="cannot be made"):
        open_registry(f"sqlite:///{tmp_path}/file/below/penstock.db")
