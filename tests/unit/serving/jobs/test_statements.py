from pathlib import Path

import pytest
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import OperationalError

from penstock.core.errors import StorageFailed
from penstock.models.registry.database import Database
from penstock.serving.jobs.statements import Statement, among, listed
from penstock.serving.jobs.tables import KEEPERS, METADATA


@pytest.fixture
def database(tmp_path: Path):
    opened = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    with opened.writing("") as connection:
        METADATA.create_all(connection)
    yield opened
    opened.close()


INSERT = Statement(KEEPERS.insert(), ("name", "holder", "until_us"))
AMONG = Statement(select(KEEPERS.c.name).where(among(KEEPERS.c.name, "names"), KEEPERS.c.holder == "me"))
GRAB = Statement(update(KEEPERS).values(holder="me").where(KEEPERS.c.until_us < bindparam("now_us")))


def test_what_is_fixed_in_a_statement_need_not_be_given(database: Database) -> None:
    with database.writing("") as connection:
        INSERT.run_many(
            connection, [{"name": f"it's {place}", "holder": "you", "until_us": place} for place in range(4)]
        )
        GRAB.run(connection, {"now_us": 3})
        assert AMONG.run(connection, {"names": listed(["it's 0", "it's 2", "it's 3", "no"])}) == [
            ("it's 0",),
            ("it's 2",),
        ]
        assert AMONG.run(connection, {"names": listed([])}) == []


def test_a_failure_is_that_of_the_database(database: Database) -> None:
    row = {"name": "a", "holder": "", "until_us": 0}

    def twice() -> None:
        with database.writing("it was not done") as connection:
            INSERT.run_many(connection, [row])
            INSERT.run_many(connection, [row])

    with pytest.raises(StorageFailed, match="it was not done"):
        twice()
    with database.reading() as connection:
        assert AMONG.run(connection, {"names": listed(["a"])}) == []
        with pytest.raises(OperationalError):
            Statement(select(KEEPERS.c.name).where(KEEPERS.c.name == bindparam("missing"))).run(connection, {})
