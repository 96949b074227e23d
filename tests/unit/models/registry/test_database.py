import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.models.registry import Candidate, Registry, database


class Contended:
    """A connection that finds the database locked while others change its mode too."""

    def __init__(self, refusals: int, mode: str = "wal") -> None:
        self.refusals = refusals
        self.mode = mode

    def execute(self, statement: str) -> "Contended":
        if statement.endswith("=WAL") and self.refusals > 0:
            self.refusals -= 1
            raise sqlite3.OperationalError("database is locked")
        return self

    def fetchone(self) -> tuple[str]:
        return ("delete" if self.refusals > 0 else self.mode,)


@pytest.fixture(autouse=True)
def _no_sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.time, "sleep", lambda _: None)


def test_the_mode_is_asked_for_until_it_is_had() -> None:
    contended = Contended(refusals=100)
    database._use_write_ahead_log(contended)
    assert contended.refusals == 0


def test_the_mode_is_not_asked_for_for_ever() -> None:
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database._use_write_ahead_log(Contended(refusals=10**9))
    with pytest.raises(sqlite3.OperationalError, match="write-ahead log cannot be used"):
        database._use_write_ahead_log(Contended(refusals=0, mode="delete"))


def test_threads_share_a_registry(registry: Registry, candidate) -> None:
    wanted: Candidate = candidate()
    with ThreadPoolExecutor(12) as threads:
        pushed = list(threads.map(lambda _: registry.push(wanted).number, range(36)))
    assert sorted(pushed) == list(range(1, 37))
