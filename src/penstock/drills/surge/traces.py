"""Real arrivals from a file: their form over time, to be scaled to a peak and a duration.

Two forms, told apart by the columns: a timestamp a request, or a timestamp and a count a bin (bins that are
missing had none). Timestamps are ISO 8601 or seconds.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InvalidInput, shown

__all__ = ["read_trace"]

BINS_MAX = 600
"""The rate is constant within a bin; burstiness finer than a six hundredth is drawn, not replayed."""
ROWS_MAX = 20_000_000
SECONDS_MAX = 1e12
"""From 1970: in seconds as in milliseconds. What is beyond has no differences that floats hold."""
COUNT_MAX = 1e15

Bins = tuple[float, ...]
_Floats = npt.NDArray[np.float64]


def read_trace(file: Path, *, part: tuple[float, float] = (0.0, 1.0)) -> Bins:
    """Counts by bins of equal width, over this part of the trace's span. Raises `InvalidInput`."""
    if not 0 <= part[0] < part[1] <= 1:
        raise InvalidInput(
            f"{part[0]:g}:{part[1]:g} is no part of a trace", where="--trace-part", hint="e.g. 0.6:1"
        )
    try:
        with gzip.open(file, "rt", newline="") if file.suffix == ".gz" else file.open(newline="") as lines:
            rows = list(_rows(file, csv.reader(lines)))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"the trace {file} cannot be read: {error}", where="--trace") from None
    if len(rows) < 2:
        raise InvalidInput(f"the trace {file} has {len(rows)} rows; two are the least", where="--trace")
    times, at = np.unique([at for at, _ in rows], return_inverse=True)
    if len(times) < 2:
        raise InvalidInput(f"the trace {file} is of a single moment", where="--trace")
    counted = [count for _, count in rows if count is not None]
    counts = np.bincount(at, weights=counted or np.ones(len(rows))).astype(np.float64)
    step = float(np.median(np.diff(times)))
    # A count is of the step that begins with its time; a single request is of its moment.
    ends = np.minimum(times + step, np.append(times[1:], math.inf)) if counted else times
    return _binned(times, ends, counts, step, part)


def _binned(times: _Floats, ends: _Floats, counts: _Floats, step: float, part: tuple[float, float]) -> Bins:
    """Counts by bins that are no shorter than a step. What lies across the edge of a bin is shared out."""
    start, span = float(times[0]), float(ends[-1] - times[0])
    low, high = start + part[0] * span, start + part[1] * span
    bins = int(min(BINS_MAX, max(1, round((high - low) / step))))
    if (ends == times).all():
        inside = (times >= low) & (times <= high)
        found, _ = np.histogram(times[inside], bins=bins, range=(low, high), weights=counts[inside])
    else:
        until = np.cumsum(counts)
        known_s = np.column_stack((times, ends)).ravel()
        known = np.column_stack((until - counts, until)).ravel()
        found = np.diff(np.interp(np.linspace(low, high, bins + 1), known_s, known))
    return tuple(float(count) for count in found)


def _rows(file: Path, reader: Iterator[list[str]]) -> Iterator[tuple[float, float | None]]:
    """The time and the count of each row, None for a request of its own; a heading is passed over.

    Raises `InvalidInput` where rows with a count stand beside rows without.
    """
    columns = 0
    for number, row in enumerate(reader, start=1):
        if not row:
            continue
        if number > ROWS_MAX:
            raise InvalidInput(f"the trace {file} has more than {ROWS_MAX:,} rows", where="--trace")
        try:
            at_s, count = _seconds(row[0]), float(row[1]) if len(row) > 1 else None
        except (ValueError, OverflowError):
            if number == 1:
                continue
            raise InvalidInput(
                f"{file}, line {number}: {shown(','.join(row))} is no timestamp, nor one with a count",
                where="--trace",
            ) from None
        columns = columns or min(len(row), 2)
        if min(len(row), 2) != columns:
            raise InvalidInput(
                f"{file}, line {number}: some rows have a count and some have none", where="--trace"
            )
        if not (abs(at_s) <= SECONDS_MAX and (count is None or 0 <= count <= COUNT_MAX)):
            raise InvalidInput(
                f"{file}, line {number}: {shown(','.join(row))} has no place in time", where="--trace"
            )
        yield at_s, count


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
