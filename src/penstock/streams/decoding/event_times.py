"""When events were, as their column says: milliseconds since 1970, within what can be believed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

__all__ = ["DAY_MS", "EventTimes", "RowFault"]

DAY_MS = 86_400_000
INT64_MAX = 2**63 - 1
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
Int64s = npt.NDArray[np.int64]


class RowFault(NamedTuple):
    """What is wrong with the row at `row`."""

    row: int
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class EventTimes:
    """Reads times before 1970, or more than `ahead_ms` after now, as faults: one event of the year 9999 would
    take the watermark past all others.
    """

    schema: StreamSchema
    ahead_ms: int = DAY_MS

    def read(self, times: pl.Series | None, recorded_ms: Int64s, now_ms: int) -> tuple[Int64s, list[RowFault]]:
        """The times of all rows, and the faults of those whose time cannot be used, in their order.

        `times` is the column, without nulls; where the schema has none, the records' own times count.
        """
        faults: list[RowFault] = []
        if times is None:
            values, unit = recorded_ms, "ms"
        elif times.dtype == pl.String:
            values, faults = self._parsed(times)
            unit = "us"
        elif isinstance(times.dtype, pl.Datetime):
            values, unit = times.to_physical().to_numpy(), times.dtype.time_unit
        else:
            values, unit = _as_int64(times.to_numpy()), self.schema.unit
        return self._within(values, unit, now_ms, faults)

    def _parsed(self, times: pl.Series) -> tuple[Int64s, list[RowFault]]:
        texts = times.to_list()
        faults: list[RowFault] = []
        try:
            moments = list(map(datetime.fromisoformat, texts))
        except ValueError:
            moments = []
            for row, text in enumerate(texts):
                try:
                    moments.append(datetime.fromisoformat(text))
                except ValueError:
                    moments.append(datetime(1970, 1, 1, tzinfo=UTC))
                    detail = f"Expected a time as ISO 8601 has it, got {text[:40]!r} - at {self._path}"
                    faults.append(RowFault(row, Reason.SCHEMA, detail))
        series = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
        return series.to_physical().to_numpy(), faults

    def _within(
        self, values: Int64s, unit: str, now_ms: int, faults: list[RowFault]
    ) -> tuple[Int64s, list[RowFault]]:
        per_second = _PER_SECOND[unit]
        latest = min((now_ms + self.ahead_ms) * per_second // 1000, INT64_MAX)
        outside = (values < 0) | (values > latest)
        if outside.any():
            known = {fault.row for fault in faults}
            faults += [
                RowFault(row, Reason.TIME_OUT_OF_RANGE, self._outside(int(values[row]), unit, now_ms))
                for row in np.flatnonzero(outside).tolist()
                if row not in known
            ]
            faults.sort()
            values = np.where(outside, 0, values)
        if per_second < 1000:
            return values * (1000 // per_second), faults
        return (values if per_second == 1000 else values // (per_second // 1000)), faults

    def _outside(self, value: int, unit: str, now_ms: int) -> str:
        time_ms = value * 1000 // _PER_SECOND[unit]
        if value < 0:
            return f"{_shown(time_ms)} is before 1970 - at {self._path}"
        ahead = f"more than {self.ahead_ms / 1000:g} s ahead of {_shown(now_ms)}"
        return f"{_shown(time_ms)} is {ahead} - at {self._path}"

    @property
    def _path(self) -> str:
        return "the record's time" if self.schema.time is None else f"$.{self.schema.time}"


def _as_int64(values: npt.NDArray[np.integer]) -> Int64s:
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(INT64_MAX))
    return values.astype(np.int64, copy=False)


def _shown(time_ms: int) -> str:
    """Readable where the calendar has it."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"
