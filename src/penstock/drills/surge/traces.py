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

from penstock.core.errors import InvalidInput, shown

__all__ = ["read_trace"]

BINS_MAX = 600
"""The rate is constant within a bin; burstiness finer than a six hundredth is drawn, not replayed."""
ROWS_MAX = 20_000_000


def read_trace(file: Path, *, part: tuple[float, float] = (0.0, 1.0)) -> tuple[float, ...]:
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
    times = np.array([at for at, _ in rows])
    counts = np.array([count for _, count in rows])
    start, span = float(times.min()), float(times.max() - times.min())
    if span <= 0:
        raise InvalidInput(f"the trace {file} is of a single moment", where="--trace")
    low, high = start + part[0] * span, start + part[1] * span
    # A bin holds what its own step of the file held: never fewer rows than one, where the file has counts.
    steps = np.diff(np.unique(times))
    bins = int(min(BINS_MAX, max(1.0, (high - low) / float(np.median(steps))))) if len(rows) > 2 else 1
    inside = (times >= low) & (times <= high)
    found, _ = np.histogram(times[inside], bins=bins, range=(low, high), weights=counts[inside])
    return tuple(float(count) for count in found)


def _rows(file: Path, reader: Iterator[list[str]]) -> Iterator[tuple[float, float]]:
    """The time and the count of each row; a first row that is neither is a heading."""
    for number, row in enumerate(reader, start=1):
        if not row:
            continue
        if number > ROWS_MAX:
            raise InvalidInput(f"the trace {file} has more than {ROWS_MAX:,} rows", where="--trace")
        try:
            at_s, count = _seconds(row[0]), float(row[1]) if len(row) > 1 else 1.0
        except (ValueError, OverflowError):
            if number == 1:
                continue
            raise InvalidInput(
                f"{file}, line {number}: {shown(','.join(row))} is no timestamp, nor one with a count",
                where="--trace",
            ) from None
        if not (math.isfinite(at_s) and 0 <= count < math.inf):
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
