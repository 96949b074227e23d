"""Aggregates whose tiles hold many numbers, most of them zero: registers of a distinct count, buckets of
quantiles.

A sketch has up to `buckets` numbers a tile. Only those that are not zero are kept, each as a tile of its own in
a second arena, with the step `step * buckets + bucket`; so memory and changes grow with what was seen, and the
arena's merging serves for both.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.windows.aggregates.part import Finished
from penstock.streams.windows.rows import Rows
from penstock.streams.windows.tiles import Field, Ints, ranges

__all__ = ["Entries", "Marks", "Sketch", "Sketched", "entries_of", "merged_entries", "rows_by_code"]

WEIGHT_BITS = 8
"""A row comes as its bucket, shifted by so many bits, and what it counts for there."""


@dataclass(frozen=True)
class Entries:
    """Numbers by group and bucket, sorted by both, each pair once: what is known of the groups' windows."""

    groups: Ints
    buckets: Ints
    weights: Ints


@dataclass(frozen=True)
class Marks:
    """Rows that add to the groups as they come: sorted by group, then arrival. `valid`: those that add."""

    groups: Ints
    buckets: Ints
    weights: Ints
    valid: npt.NDArray[np.bool_]


class Sketch(Protocol):
    """What is kept. Equal sketches are one."""

    @property
    def field(self) -> Field: ...

    @property
    def buckets(self) -> int: ...

    @property
    def column(self) -> str: ...

    @property
    def combined(self) -> np.ufunc:
        """Makes one weight of two."""
        ...

    def marks(self, series: pl.Series) -> tuple[Ints, npt.NDArray[np.bool_] | None]:
        """Each row as bucket and weight in one integer, and which rows count, None for all. Raises
        `InvalidInput` for a column that it has no answer for.
        """
        ...


class Sketched(ABC):
    """An aggregate that is read off a sketch. A frozen value object.

    It is a base class, not a protocol: which aggregates are such is asked with each frame.
    """

    column: str

    @property
    @abstractmethod
    def sketch(self) -> Sketch: ...

    @abstractmethod
    def estimate(self, entries: Entries, groups: int) -> Finished:
        """The answer for each group, of 0 to `groups`."""

    @abstractmethod
    def estimate_rows(self, entries: Entries, marks: Marks, *, inclusive: bool) -> Finished:
        """The answer for each row: of its group's entries and the rows of the group up to it, or before it."""


def entries_of(parts: Sequence[Entries], sketch: Sketch) -> Entries:
    """Of numbers in any order, also of several for one group and bucket."""
    codes = np.concatenate([part.groups for part in parts]) * sketch.buckets
    codes += np.concatenate([part.buckets for part in parts])
    weights = np.concatenate([part.weights for part in parts])
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if not len(starts):
        return Entries(codes, codes, codes)
    folded = sketch.combined.reduceat(weights[order], starts)
    return Entries(codes[starts] // sketch.buckets, codes[starts] % sketch.buckets, folded)


def merged_entries(lows: Ints, highs: Ints, steps: Ints, weights: Ints, sketch: Sketch) -> Entries:
    """Of each span of an arena's tiles, a group each."""
    at = ranges(lows, highs - lows)
    groups = np.repeat(np.arange(len(lows)), highs - lows)
    present = weights[at] != 0
    at, groups = at[present], groups[present]
    return entries_of([Entries(groups, steps[at] % sketch.buckets, weights[at])], sketch)


def rows_by_code(codes: Ints) -> tuple[Ints, Rows]:
    """The order by code, as they come within each, and the runs of it."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return order, Rows(starts, codes, {})
