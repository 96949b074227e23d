"""Records of Arrow: each is a stream of many rows, good or bad as a whole."""

import io
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.core.errors import InvalidInput
from penstock.log.records import Records
from penstock.streams.column_types import column_type
from penstock.streams.decoding.arrow_check import check_stream
from penstock.streams.decoding.calendar_bounds import has_times, within_calendar
from penstock.streams.decoding.decoded import BadRecord, Decoded
from penstock.streams.decoding.event_times import EventTimes
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.panics import panics_as_errors
from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

__all__ = ["ArrowDecoder"]

DETAIL_LENGTH_MAX = 300
_KEPT = (bytes, date, datetime, time, timedelta, Decimal)
Int64s = npt.NDArray[np.int64]


class _Off(Exception):
    """The record does not fit the stream."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ArrowDecoder:
    """Each record gives as many rows as it has, all with its offset.

    One bad row makes the record a bad one: replayed once it is mended, it brings the others with it.
    """

    def __init__(self, schema: StreamSchema, times: EventTimes) -> None:
        self._schema = schema
        self._times = times
        fields = msgspec.structs.fields(schema.row_type)
        self._columns = [
            _Column(name, dtype, field, nullable=name in schema.nullable)
            for (name, dtype), field in zip(schema.columns.items(), fields, strict=True)
        ]
        self._strict = schema.row_type.__struct_config__.forbid_unknown_fields

    def decode(self, records: Records, offsets: Int64s, now_ms: int) -> Decoded:
        """As `Decoder.decode`."""
        frames: list[pl.DataFrame] = []
        bad: list[BadRecord] = []
        for position, value in enumerate(records.values):
            try:
                frames.append(
                    self._frame(value, int(records.times_ms[position]), int(offsets[position]), now_ms)
                )
            except _Off as off:
                bad.append(
                    BadRecord(
                        offset=int(offsets[position]),
                        position=position,
                        reason=off.reason,
                        detail=str(off)[:DETAIL_LENGTH_MAX],
                    )
                )
        frame = pl.concat(frames) if frames else pl.DataFrame(schema=self._schema.frame_schema)
        return Decoded(frame=frame, bad=tuple(bad), records=records, offsets=offsets, many=True)

    def _frame(self, value: bytes, recorded_ms: int, offset: int, now_ms: int) -> pl.DataFrame:
        try:
            check_stream(value)
            with panics_as_errors():
                read = pl.read_ipc_stream(io.BytesIO(value))
        except InvalidInput as error:
            raise _Off(Reason.UNDECODABLE, error.message) from error
        except Exception as error:
            raise _Off(Reason.UNDECODABLE, f"this Arrow stream cannot be read: {error}") from error
        if self._strict and (unknown := [name for name in read.columns if name not in self._schema.columns]):
            raise _Off(Reason.SCHEMA, f"Object contains unknown field `{unknown[0]}`")
        series = [column.taken(read) for column in self._columns]
        rows = read.height
        at = None if self._schema.time is None else series[list(self._schema.columns).index(self._schema.time)]
        times_ms, untimely = self._times.read(at, np.full(rows, recorded_ms, dtype=np.int64), now_ms)
        if untimely:
            fault = untimely[0]
            raise _Off(fault.reason, f"row {fault.row}: {fault.detail}")
        series += [
            pl.Series(TIME, times_ms, dtype=pl.Int64),
            pl.Series(OFFSET, np.full(rows, offset, dtype=np.int64)),
        ]
        return pl.DataFrame(series)


class _Column:
    """How a column is taken from what came."""

    def __init__(
        self, name: str, dtype: pl.DataType, field: msgspec.structs.FieldInfo, *, nullable: bool
    ) -> None:
        self._name = name
        self._dtype = dtype
        self._field = field
        self._nullable = nullable
        self._timed = has_times(dtype)
        kind = column_type(dtype, name)
        # Where the Polars type alone says less than what was declared, msgspec looks at the values as well.
        self._declared: Any = None if field.type in (kind.wire, kind.annotation) else list[field.type]  # type: ignore[name-defined]

    def taken(self, frame: pl.DataFrame) -> pl.Series:
        """Raises `_Off`."""
        if self._name not in frame.columns:
            return self._missing(frame.height)
        series = frame[self._name]
        if series.null_count() and not self._nullable:
            raise _Off(Reason.SCHEMA, f"Expected {self._dtype}, got null - at $.{self._name}")
        if not _fits(series.dtype, self._dtype):
            raise _Off(Reason.SCHEMA, f"Expected {self._dtype}, got {series.dtype} - at $.{self._name}")
        try:
            with panics_as_errors():
                cast = series if series.dtype == self._dtype else _cast(series, self._dtype)
                if self._timed and not within_calendar(cast):
                    raise ValueError("it has a year that no calendar has")
                if self._declared is not None:
                    msgspec.convert(cast.to_list(), self._declared)
        except Exception as error:
            problem = str(error).partition("\n")[0]
            raise _Off(Reason.SCHEMA, f"{problem} - in column {self._name}") from error
        return cast

    def _missing(self, rows: int) -> pl.Series:
        default: Any = self._field.default
        if self._field.default_factory is not msgspec.NODEFAULT:
            default = self._field.default_factory()
        if default is msgspec.NODEFAULT:
            raise _Off(Reason.SCHEMA, f"Object missing required field `{self._name}`")
        return pl.Series(
            self._name, [msgspec.to_builtins(default, builtin_types=_KEPT)] * rows, dtype=self._dtype
        )


def _cast(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    cast = series.cast(dtype)
    if isinstance(dtype, pl.Decimal) and not (cast.cast(series.dtype) == series).all():
        raise ValueError(f"a value has more than {dtype.scale} digits behind its point")
    return cast


def _fits(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a value of the one type is one of the other by what it means, if it is within its range."""
    if isinstance(given, pl.Null):
        return True  # nothing but nulls, which are looked at by themselves
    if isinstance(wanted, pl.List | pl.Array):
        return isinstance(given, pl.List | pl.Array) and _fits(given.inner, wanted.inner)  # type: ignore[arg-type]
    if isinstance(wanted, pl.Struct):
        return (
            isinstance(given, pl.Struct)
            and [field.name for field in given.fields] == [field.name for field in wanted.fields]
            and all(
                _fits(one.dtype, other.dtype)  # type: ignore[arg-type]
                for one, other in zip(given.fields, wanted.fields, strict=True)
            )
        )
    numbers = given.is_integer() or (given.is_float() and wanted.is_float())
    if wanted.is_float() or wanted.is_integer():
        return numbers
    texts = pl.String | pl.Categorical | pl.Enum
    return isinstance(given, texts if isinstance(wanted, texts) else type(wanted))
