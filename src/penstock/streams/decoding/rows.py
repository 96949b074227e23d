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
"""Rows that become columns at once. All 10,000 of a frame would have left the processor's cache before they
do: twice as slow, measured."""
DETAIL_LENGTH_MAX = 300
Int64s = npt.NDArray[np.int64]


class RowDecoder:
    """Decodes each value by itself, so that no value can change what its neighbours are read as."""

    def __init__(self, schema: StreamSchema, times: EventTimes, decode: Callable[[bytes], Any]) -> None:
        self._schema = schema
        self._times = times
        self._decode = decode
        self._builders = [ColumnBuilder(name, dtype) for name, dtype in schema.columns.items()]
        self._time = schema.time

    def decode(self, records: Records, offsets: Int64s, now_ms: int) -> Decoded:
        """As `Decoder.decode`."""
        faults: list[RowFault] = []
        values = records.values
        parts = [
            self._part(values[start : start + CHUNK_ROWS], start, faults)
            for start in range(0, len(values), CHUNK_ROWS)
        ] or [self._part((), 0, faults)]
        frame = parts[0] if len(parts) == 1 else pl.concat(parts, rechunk=True)
        times_ms, kept_offsets = records.times_ms, offsets
        kept = np.arange(len(records))
        if faults:
            kept = np.delete(kept, [fault.row for fault in faults])
            times_ms, kept_offsets = times_ms[kept], offsets[kept]
        column = None if self._time is None else frame.get_column(self._time)
        times_ms, untimely = self._times.read(column, times_ms, now_ms)
        # A frame's own constructor takes four times as long.
        frame = frame.hstack([pl.Series(TIME, times_ms), pl.Series(OFFSET, kept_offsets)])
        if untimely:
            good = np.ones(frame.height, dtype=np.bool_)
            good[[fault.row for fault in untimely]] = False
            frame = frame.filter(pl.Series(good))
            faults += [fault._replace(row=int(kept[fault.row])) for fault in untimely]
        return Decoded(frame=frame, bad=_bad(faults, offsets), records=records, offsets=offsets)

    def _part(self, values: Sequence[bytes], start: int, faults: list[RowFault]) -> pl.DataFrame:
        """The good rows' columns; the faults of the others are added, by their place."""
        mine: list[RowFault] = []
        rows = self._rows(values, mine)
        columns: list[Sequence[Any]] = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        if not rows:
            columns = [()] * len(self._builders)
        series, misfits = self._series(columns)
        if misfits:
            kept = np.delete(np.arange(len(values)), [fault.row for fault in mine])
            mine += [fault._replace(row=int(kept[fault.row])) for fault in misfits]
        faults += [fault._replace(row=start + fault.row) for fault in mine]
        return series[0].to_frame().hstack(series[1:])

    def _rows(self, values: Sequence[bytes], faults: list[RowFault]) -> list[Any]:
        """`extend` keeps what came before an error, and the map goes on behind the value that raised it."""
        rows: list[Any] = []
        decoded = map(self._decode, values)
        while True:
            try:
                rows.extend(decoded)
            except MemoryError:
                raise
            except Exception as error:
                reason = Reason.SCHEMA if isinstance(error, msgspec.ValidationError) else Reason.UNDECODABLE
                faults.append(RowFault(len(rows) + len(faults), reason, str(error)[:DETAIL_LENGTH_MAX]))
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
