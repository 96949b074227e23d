"""Quantiles within 1 % of the value, mergeable over tiles.

DDSketch: counts in buckets whose bounds grow by a factor, so that every value of a bucket is within the
relative error of its middle; negative values have buckets of their own, and zero one. Source: Masson, Rim and
Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019). Values nearer
to zero than 1e-12 count as zero, those beyond 1e+15 as that.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import ConfigurationError, InvalidInput
from penstock.streams.windows.aggregates.part import Finished
from penstock.streams.windows.aggregates.sketch import WEIGHT_BITS, Entries, Marks, Sketched
from penstock.streams.windows.tiles import Field, Ints

__all__ = ["Quantile", "Quantiles", "bucket_of", "middle_of"]

ACCURACY = 0.01
LEAST, GREATEST = 1e-12, 1e15
_LOG_GAMMA = float(np.log1p(ACCURACY) - np.log1p(-ACCURACY))
_LOWEST = int(np.ceil(np.log(LEAST) / _LOG_GAMMA))
_HIGHEST = int(np.ceil(np.log(GREATEST) / _LOG_GAMMA))
_MAGNITUDES = _HIGHEST - _LOWEST + 1
ZERO = _MAGNITUDES
"""Buckets below are of negative values, the greatest magnitude first; those above of positive ones."""
BUCKETS = 1 << (2 * _MAGNITUDES + 1).bit_length()


@dataclass(frozen=True)
class Quantiles:
    """The counts by bucket of a column's values: one sketch for all quantiles of it."""

    column: str

    @property
    def field(self) -> Field:
        return Field(f"quantiles:{self.column}", True, 0)

    @property
    def buckets(self) -> int:
        return BUCKETS

    @property
    def combined(self) -> np.ufunc:
        return np.add

    def marks(self, series: pl.Series) -> tuple[Ints, npt.NDArray[np.bool_] | None]:
        if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean(), pl.Null())):
            raise InvalidInput(
                f"the column {self.column!r} is of {series.dtype}, which has no quantiles",
                where=self.column,
                hint="cast it to a number before the window",
            )
        values = series.cast(pl.Float64).to_numpy()
        absent = np.isnan(values)
        buckets = bucket_of(np.where(absent, 0.0, values))
        return (buckets << WEIGHT_BITS) | 1, ~absent if absent.any() else None


@dataclass(frozen=True)
class Quantile(Sketched):
    """The value below which the share `q` of a column's values lies; null of none."""

    column: str
    q: float

    def __post_init__(self) -> None:
        if not 0 <= self.q <= 1:
            raise ConfigurationError(f"a quantile of {self.q}", hint="take a share from 0 to 1, such as 0.99")

    @property
    def sketch(self) -> Quantiles:
        return Quantiles(self.column)

    def estimate(self, entries: Entries, groups: int) -> Finished:
        """Of each group's counts."""
        counts = np.zeros(groups, np.int64)
        np.add.at(counts, entries.groups, entries.weights)
        totals = entries.weights.cumsum()
        starts = np.searchsorted(entries.groups, np.arange(groups))
        before = np.append(0, totals)[starts]
        wanted = before + self._ranks(counts)
        at = np.searchsorted(totals, wanted, side="right")
        present = counts > 0
        values = middle_of(np.append(entries.buckets, ZERO)[np.where(present, at, len(totals))])
        return values, None if present.all() else present, None

    def estimate_rows(self, entries: Entries, marks: Marks, *, inclusive: bool) -> Finished:
        """As of each row: from a table of each group's rows by its buckets."""
        values = np.empty(len(marks.groups))
        present = np.empty(len(marks.groups), np.bool_)
        firsts = np.flatnonzero(np.diff(marks.groups, prepend=-1))
        for first, end in zip(firsts, [*firsts[1:], len(marks.groups)], strict=True):
            low, high = np.searchsorted(entries.groups, [marks.groups[first], marks.groups[first] + 1])
            mine, valid = marks.buckets[first:end], marks.valid[first:end]
            buckets = np.union1d(entries.buckets[low:high], mine[valid])
            counts = np.zeros((end - first + 1, max(len(buckets), 1)), np.int64)
            counts[0, np.searchsorted(buckets, entries.buckets[low:high])] = entries.weights[low:high]
            counts[1 + np.flatnonzero(valid), np.searchsorted(buckets, mine[valid])] = 1
            below = counts.cumsum(axis=0)[1:] if inclusive else counts.cumsum(axis=0)[:-1]
            below = below.cumsum(axis=1)
            at = (below <= self._ranks(below[:, -1])[:, None]).sum(axis=1)
            present[first:end] = below[:, -1] > 0
            values[first:end] = middle_of(np.append(buckets, ZERO)[np.minimum(at, len(buckets))])
        return values, None if present.all() else present, None

    def _ranks(self, counts: Ints) -> Ints:
        """Of the value that is looked for, from 0: the lower one where it lies between two."""
        ranks: Ints = np.floor(self.q * np.maximum(counts - 1, 0)).astype(np.int64)
        return ranks


def bucket_of(values: npt.NDArray[np.float64]) -> Ints:
    """Ascending with the value."""
    magnitudes = np.abs(values)
    logarithms = np.log(np.clip(magnitudes, LEAST, GREATEST)) / _LOG_GAMMA
    steps = np.ceil(logarithms).astype(np.int64) - _LOWEST
    signed = np.where(values < 0, -1 - steps, 1 + steps)
    return ZERO + np.where(magnitudes < LEAST, 0, signed)


def middle_of(buckets: Ints) -> npt.NDArray[np.float64]:
    """The value that is within the accuracy of all values of the bucket."""
    signed = buckets - ZERO
    powers = np.exp((np.abs(signed) - 1 + _LOWEST) * _LOG_GAMMA)
    middles: npt.NDArray[np.float64] = np.sign(signed) * powers * 2 / (1 + np.exp(_LOG_GAMMA))
    return middles
