"""Statements that are written many times a second, made once.

They are SQLAlchemy's, compiled to text at their first use and handed to the driver from then on: what it does
for each execution costs eight times what SQLite does. For another database, `run` and `run_many` are what
SQLAlchemy does anyway.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.base import Executable

__all__ = ["Statement", "among", "listed"]

_DIALECT = sqlite.dialect(paramstyle="named")


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether it is one of those in the parameter `name`, made by `listed`: one text for any number of them."""
    each = func.json_each(bindparam(name)).table_valued("value")
    return column.in_(select(each.c.value))


def listed(values: Iterable[int | str]) -> str:
    """What `among` takes."""
    return json.dumps(list(values))


class Statement:
    """One statement, without what has defaults: each column that it writes is named in its parameters."""

    def __init__(self, executable: Executable, columns: Sequence[str] | None = None) -> None:
        """`columns` are those that an insert writes."""
        self._executable = executable
        self._columns = columns
        self._text: str | None = None
        self._fixed: dict[str, Any] = {}

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Its rows. Raises as SQLAlchemy does."""
        text = self._text or self._compile()
        try:
            return _driver(connection).execute(text, {**self._fixed, **parameters}).fetchall()
        except sqlite3.Error as error:
            raise OperationalError(text, None, error) from error

    def run_many(self, connection: Connection, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Once with each. Raises as SQLAlchemy does."""
        text = self._text or self._compile()
        given = [{**self._fixed, **each} for each in parameters] if self._fixed else parameters
        try:
            _driver(connection).executemany(text, given)
        except sqlite3.Error as error:
            raise OperationalError(text, None, error) from error

    def _compile(self) -> str:
        compiled = self._executable.compile(dialect=_DIALECT, column_keys=self._columns)  # type: ignore[attr-defined]
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._text = str(compiled)
        return self._text


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: Any = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection), "statements are compiled for SQLite"
    return driver
