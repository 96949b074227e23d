"""Records of one event each to a frame, for any format that msgspec decodes: no loop of ours over good rows."""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.log.records import Records
from penstock.streams.decoding.columns import ColumnBuilder
from penstock.streams.decoding.decoded import BadRecord, Decoded
from penstock.streams.decoding.event_times import EventTimes, RowFault
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.panics import panics_as_errors
from penstock.streams.reasons import Reason
from penstock.streams.schema import StreamSchema

__all__ = ["RowDecoder"]

CHUNK_ROWS = 512
"""Rows that are taken apart at once. All 10,000 of a frame would have left the processor's cache before they
become columns: twice as slow, measured."""
DETAIL_LENGTH_MAX = 300
Int64s = npt.NDArray[np.int64]


class RowDecoder:
    """Decodes each value by itself, so that no value can change what its neighbours are read as."""

    def __init__(self, schema: StreamSchema, times: EventTimes, decode: Callable[[bytes], Any]) -> None:
        self._schema = schema
        self._times = times
        self._decode = decode
        self._builders = [ColumnBuilder(name, dtype) for name, dtype in schema.columns.items()]
        self._time_index = None if schema.time is None else list(schema.columns).index(schema.time)

    def decode(self, records: Records, offsets: Int64s, now_ms: int) -> Decoded:
        """As `Decoder.decode`."""
        columns, faults = self._columns(records.values)
        kept = np.arange(len(records), dtype=np.int64)
        if faults:
            kept = np.delete(kept, [fault.row for fault in faults])
        series, misfits = self._series(columns)
        if misfits:
            faults += [fault._replace(row=int(kept[fault.row])) for fault in misfits]
            kept = np.delete(kept, [fault.row for fault in misfits])
        column = None if self._time_index is None else series[self._time_index]
        times_ms, untimely = self._times.read(column, records.times_ms[kept], now_ms)
        series += [pl.Series(TIME, times_ms), pl.Series(OFFSET, offsets[kept])]
        # A frame's own constructor takes four times as long.
        frame = series[0].to_frame().hstack(series[1:])
        if untimely:
            mask = np.ones(len(kept), dtype=np.bool_)
            mask[[fault.row for fault in untimely]] = False
            frame = frame.filter(pl.Series(mask))
            faults += [fault._replace(row=int(kept[fault.row])) for fault in untimely]
        return Decoded(frame=frame, bad=_bad(faults, offsets), records=records, offsets=offsets)

    def _columns(self, values: Sequence[bytes]) -> tuple[list[Sequence[Any]], list[RowFault]]:
        """The good rows' values column by column, and the faults of the others by their place."""
        parts: list[list[Sequence[Any]]] = []
        faults: list[RowFault] = []
        for start in range(0, len(values), CHUNK_ROWS):
            rows = self._rows(values[start : start + CHUNK_ROWS], start, faults)
            if rows:
                parts.append(list(zip(*map(msgspec.structs.astuple, rows), strict=True)))
        if len(parts) <= 1:
            return (parts[0] if parts else [()] * len(self._builders)), faults
        columns = [list(values) for values in parts[0]]
        for part in parts[1:]:
            for column, added in zip(columns, part, strict=True):
                column.extend(added)
        return list(columns), faults

    def _rows(self, values: Sequence[bytes], start: int, faults: list[RowFault]) -> list[Any]:
        """`extend` keeps what came before an error, and the map goes on behind the value that raised it."""
        rows: list[Any] = []
        decoded = map(self._decode, values)
        known = len(faults)
        while True:
            try:
                rows.extend(decoded)
            except MemoryError:
                raise
            except Exception as error:
                reason = Reason.SCHEMA if isinstance(error, msgspec.ValidationError) else Reason.UNDECODABLE
                row = start + len(rows) + len(faults) - known
                faults.append(RowFault(row, reason, str(error)[:DETAIL_LENGTH_MAX]))
            else:
                return rows

    def _series(self, columns: list[Sequence[Any]]) -> tuple[list[pl.Series], list[RowFault]]:
        """The columns, without the rows that have no place in one of them, which are rare: msgspec has
        already seen to the types.
        """
        try:
            with panics_as_errors():
                return [build.build(values) for build, values in zip(self._builders, columns, strict=True)], []
        except Exception:  # whichever it is: the values at fault are found, or it comes again below
            misfits: dict[int, str] = {}
            for build, values in zip(self._builders, columns, strict=True):
                misfits = build.misfits(values) | misfits
            good = [row not in misfits for row in range(len(columns[0]))]
            series = [
                build.build(list(compress(values, good)))
                for build, values in zip(self._builders, columns, strict=True)
            ]
            return series, [RowFault(row, Reason.SCHEMA, misfits[row]) for row in sorted(misfits)]


def _bad(faults: list[RowFault], offsets: Int64s) -> tuple[BadRecord, ...]:
    return tuple(
        BadRecord(offset=int(offsets[fault.row]), position=fault.row, reason=fault.reason, detail=fault.detail)
        for fault in sorted(faults)
    )
