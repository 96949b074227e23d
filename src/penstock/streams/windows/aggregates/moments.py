"""The variance, of values as large and as close together as they may be.

Within a tile the sums of (x - s) and (x - s)² are kept, where s is the tile's first value: the differences are
as small as the spread, so that little cancels (shifted data). Tiles are merged by their counts, means and sums
of squares about the mean. Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance"
(1983).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InvalidInput
from penstock.streams.windows.aggregates.part import Columns, Finished, Kind, Part, Reading
from penstock.streams.windows.rows import Rows, Spans
from penstock.streams.windows.tiles import Column, Field

__all__ = ["Moments", "Variance"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Count, shift and the two shifted sums of a tile; `fold` gives count, mean and squares about the mean."""

    column: str

    @property
    def fields(self) -> tuple[Field, ...]:
        names = [f"moments-{what}:{self.column}" for what in ("count", "shift", "sum", "squares")]
        return (
            Field(names[0], True, 0),
            Field(names[1], False, np.nan),
            Field(names[2], False, 0),
            Field(names[3], False, 0),
        )

    @property
    def needs(self) -> str:
        return self.column

    def running(self, rows: Rows, carried: Columns) -> Columns:
        values, valid = rows.column(self.column)
        present = np.ones(rows.count, np.bool_) if valid is None else valid
        firsts = np.minimum.reduceat(np.where(present, np.arange(rows.count), rows.count), rows.starts)
        found = np.append(values.astype(np.float64), np.nan)[firsts]
        # A run without a value has the next run's first one here, or none: only its absence may be kept.
        found[firsts > rows.lasts] = np.nan
        shifts = np.where(np.isnan(carried[1]), found, carried[1])
        off = np.where(present, values - shifts[rows.run_of], 0.0)
        counts = rows.running_total(present.astype(np.int64), carried[0])
        # The shift is of the whole run; that a row comes before the first value is told by its count.
        return (
            counts,
            shifts[rows.run_of],
            rows.running_sum(off, carried[2]),
            rows.running_sum(off * off, carried[3]),
        )

    def fold(self, spans: Spans, tiles: Columns) -> Columns:
        counts, means, squares = _centred(tiles)
        weights = counts.astype(np.float64)
        total = spans.sum(weights)
        anchors = np.append(means, 0.0)[spans.lows]
        divisors = np.maximum(total, 1)
        mean = anchors + spans.sum_of(lambda at, of: weights[at] * (means[at] - anchors[of])) / divisors
        about = spans.sum_of(lambda at, of: squares[at] + weights[at] * (means[at] - mean[of]) ** 2)
        return (total, mean, about)

    def merge(self, older: Columns, youngest: Columns) -> Columns:
        counts, means, squares = _centred(youngest)
        total = older[0] + counts
        divisors = np.maximum(total, 1)
        apart = means - older[1]
        # Where one side has nothing its mean counts for nothing, as its count is 0.
        mean = np.where(older[0] > 0, older[1] + apart * counts / divisors, means)
        both = np.where((older[0] > 0) & (counts > 0), apart * apart * older[0] * counts / divisors, 0.0)
        return (total, mean, older[2] + squares + both)


@dataclass(frozen=True)
class Variance:
    """The variance of a column's values, divided by their number less `ddof`; null of too few."""

    column: str
    ddof: int = 1

    def parts(self, kind: Kind | None) -> tuple[Part, ...]:
        if kind is not None and kind.dtype.is_temporal():
            raise InvalidInput(
                f"the variance of the column {self.column!r} means nothing: it holds {kind.dtype}",
                where=self.column,
                hint="take numbers",
            )
        return (Moments(self.column),)

    def finish(self, kind: Kind | None, read: Reading) -> Finished:  # noqa: ARG002 - as aggregates have it
        moments = read(Moments(self.column))
        assert moments is not None
        count, _, squares = moments
        return squares / np.maximum(count - self.ddof, 1), count > self.ddof, None


def _centred(tiles: Columns) -> tuple[Column, Floats, Floats]:
    """Counts, means and squares about the mean, which rounding does not make negative; zeros of none."""
    counts, shifts, sums, squares = tiles
    divisors = np.maximum(counts, 1)
    offsets = sums / divisors
    means = np.where(counts > 0, shifts + offsets, 0.0)
    return counts, means, np.where(counts > 0, np.maximum(squares - sums * offsets, 0.0), 0.0)
