"""Rows that break what is done to a frame are found by halving, and set aside; the others go on in their order.

With one such row among n it takes about 2·log₂ n tries, so many for each further one, and never more than a
bound: a function that always raises must not take for ever to say so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.streams.operator import OFFSET, TIME
from penstock.streams.panics import panics_as_errors
from penstock.streams.reasons import Reason

__all__ = ["TRIES_MAX", "FailedRow", "Transformed", "WrongFrame", "attempt", "isolate", "refused"]

TRIES_MAX = 512
DETAIL_LENGTH_MAX = 500

Attempted = pl.DataFrame | BaseException
Work = Callable[[Sequence[pl.DataFrame]], Sequence[Attempted]]
"""Does it to each of several pieces of a frame, and gives what came of each in their order."""


class WrongFrame(Exception):
    """What was given back is no frame that can go on, whatever the rows: halving would find nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedRow:
    """A row that was set aside: the number of the row in the frame, and its place in the source partition."""

    row: int
    offset: int
    time_ms: int
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Transformed:
    """The rows that went on, and those that were set aside."""

    frame: pl.DataFrame
    failed: tuple[FailedRow, ...] = ()


def attempt(function: Callable[[pl.DataFrame], pl.DataFrame], frame: pl.DataFrame) -> Attempted:
    """What the function gives, or raises. A panic of Polars is an error of the rows like others, and so is an
    exit (`sys.exit`): it would come again on the same rows after each start. Only who is at the keyboard ends
    more than that.
    """
    try:
        with panics_as_errors():
            return function(frame)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error


def isolate(
    frame: pl.DataFrame, work: Work, *, empty: pl.DataFrame, pieces: int = 1, tries_max: int = TRIES_MAX
) -> Transformed:
    """Does the work to a frame, cut into so many pieces to begin with. `empty` is the result of no rows."""
    height = frame.height
    step = max(-(-height // pieces), 1)
    open_ranges = [(start, min(start + step, height)) for start in range(0, height, step)] or [(0, 0)]
    done: list[tuple[int, pl.DataFrame]] = []
    failed: list[FailedRow] = []
    tries = 0
    while open_ranges:
        tries += len(open_ranges)
        results = work([frame.slice(start, end - start) for start, end in open_ranges])
        halves: list[tuple[int, int]] = []
        for (start, end), result in zip(open_ranges, results, strict=True):
            if isinstance(result, pl.DataFrame):
                done.append((start, result))
            elif end - start <= 1 or isinstance(result, WrongFrame) or tries + len(halves) + 2 > tries_max:
                failed += refused(frame, (start, end), result, tries=tries)
            else:
                middle = (start + end) // 2
                halves += [(start, middle), (middle, end)]
        open_ranges = halves
    done.sort(key=lambda piece: piece[0])
    parts = [part for _, part in done]
    joined = parts[0] if len(parts) == 1 else pl.concat(parts) if parts else empty
    failed.sort(key=lambda each: each.row)
    return Transformed(frame=joined, failed=tuple(failed))


def _told(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, WrongFrame) else str(error)
    text = " ".join(text.split())
    return text if len(text) <= DETAIL_LENGTH_MAX else f"{text[:DETAIL_LENGTH_MAX]}…"


def refused(
    frame: pl.DataFrame, bounds: tuple[int, int], error: BaseException, *, tries: int
) -> list[FailedRow]:
    """The rows between these bounds, on which the error was raised; `tries`: after which it was given up."""
    told, rows = _told(error), bounds[1] - bounds[0]
    if rows > 1 and not isinstance(error, WrongFrame):
        told = f"{told} (one of {rows} rows; given up after {tries} tries)"
    return _failed_rows(frame, bounds, told)


def _failed_rows(frame: pl.DataFrame, bounds: tuple[int, int], detail: str) -> list[FailedRow]:
    start, end = bounds
    places = frame.slice(start, end - start).select(OFFSET, TIME).iter_rows()
    return [
        FailedRow(row=row, offset=offset, time_ms=time_ms, reason=Reason.RAISED, detail=detail)
        for row, (offset, time_ms) in enumerate(places, start)
    ]
