"""Which columns a join gives, and whether its inputs can be joined at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.keys import read_table
from penstock.streams.operator import DELETED, OFFSET, TIME

__all__ = ["JoinColumns", "read_rows", "rows_at"]


@dataclass(frozen=True, kw_only=True)
class JoinColumns:
    """The inputs of a join: their columns (the user's) and which of them are the key, in the same order.

    All columns of the left come out, and those of the right that are no key; where the left has one of the same
    name it gets the suffix.
    """

    left: pl.Schema
    right: pl.Schema
    left_key: Sequence[str]
    right_key: Sequence[str]
    suffix: str = "_right"

    def check(self) -> None:
        """Raises `ConfigurationError`."""
        if not self.left_key or len(self.left_key) != len(self.right_key):
            raise ConfigurationError(
                f"a join by {list(self.left_key)} and {list(self.right_key)} has no key of both sides",
                hint="name as many key columns on the right as on the left, at least one",
            )
        for side, schema, key in (("left", self.left, self.left_key), ("right", self.right, self.right_key)):
            for name in key:
                if name not in schema:
                    raise ConfigurationError(
                        f"the {side} of a join has no key column {name!r}",
                        hint=f"its columns are {', '.join(schema.names())}",
                    )
        for left, right in zip(self.left_key, self.right_key, strict=True):
            self._check_types(left, right)
        names = [*self.left, *self.renamed.values()]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ConfigurationError(
                f"a join gives two columns {min(doubled)!r}",
                hint="choose another suffix for the right's columns",
            )

    @property
    def renamed(self) -> dict[str, str]:
        """The right's columns that come out, and how they are called then."""
        return {
            name: f"{name}{self.suffix}" if name in self.left else name
            for name in self.right
            if name not in self.right_key
        }

    @property
    def schema(self) -> pl.Schema:
        """Of what comes out; columns of the right may be null where nothing was found."""
        return pl.Schema({**self.left, **{new: self.right[old] for old, new in self.renamed.items()}})

    def empty(self, *, left: bool) -> pl.DataFrame:
        """A frame of that side without rows."""
        reserved = {TIME: pl.Int64(), OFFSET: pl.Int64()}
        return pl.DataFrame(schema={**(self.left if left else self.right), **reserved})

    def empty_table(self) -> pl.DataFrame:
        """Of the right, where it is a table."""
        return self.empty(left=False).with_columns(pl.lit(value=False).alias(DELETED))

    def described(self, *, left: bool) -> list[list[str]]:
        """The columns of a side as a state names them."""
        return [[name, str(dtype)] for name, dtype in (self.left if left else self.right).items()]

    def _check_types(self, left: str, right: str) -> None:
        types = self.left[left], self.right[right]
        if types[0] != types[1]:
            raise ConfigurationError(
                f"the key columns {left!r} and {right!r} of a join are of {types[0]} and {types[1]}",
                hint="cast one of them, or they would never be equal",
            )
        if types[0].is_float() or types[0].is_nested():
            raise ConfigurationError(
                f"the key column {left!r} of a join is of {types[0]}, which is no key",
                hint="take a column of text, integers, booleans or dates",
            )


def read_rows(arrays: Mapping[str, npt.NDArray[np.generic]], name: str, expected: pl.DataFrame) -> pl.DataFrame:
    """A table out of a state, with the columns of what is expected. Raises `CorruptState`."""
    if name not in arrays:
        raise CorruptState(f"the state of a join has no table {name!r}")
    table = read_table(arrays[name].view(np.uint8))
    if table.schema != expected.schema:
        raise CorruptState(f"the table {name!r} of a join's state has other columns: {table.schema}")
    return table


def rows_at(frame: pl.DataFrame, numbers: npt.NDArray[np.int64]) -> pl.DataFrame:
    """The rows with these numbers, none negative, in this order. (Polars looks signed numbers through.)"""
    return frame[pl.Series(numbers.astype(np.uint32))]
