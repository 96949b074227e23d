"""Dead letters of records and rows that a stage could not use after they were decoded."""

from collections.abc import Sequence

import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import DeadLetter
from penstock.streams.encoding import encoder_of
from penstock.streams.isolating import FailedRow
from penstock.streams.operator import OFFSET
from penstock.streams.reasons import Reason

__all__ = ["letters_of_records", "letters_of_rows", "letters_of_values"]


def letters_of_records(
    fetched: Fetched, reason: Reason, detail: str, *, stage: str, now_ms: int
) -> list[DeadLetter]:
    """Of records as they came."""
    return [
        _letter(fetched, position, stage=stage, now_ms=now_ms, why=(reason, detail))
        for position in range(len(fetched.records))
    ]


def letters_of_rows(
    fetched: Fetched, rows: Sequence[FailedRow], *, stage: str, now_ms: int
) -> list[DeadLetter]:
    """Of rows that were decoded from those records: each with the bytes of its record."""
    positions = fetched.offsets.searchsorted([row.offset for row in rows]).tolist()
    return [
        _letter(fetched, position, stage=stage, now_ms=now_ms, why=(row.reason, row.detail))
        for position, row in zip(positions, rows, strict=True)
    ]


def letters_of_values(
    frame: pl.DataFrame, rows: Sequence[FailedRow], source: TopicPartition, *, stage: str, now_ms: int
) -> list[DeadLetter]:
    """Of rows that came from another stage, many in a record: as JSON."""
    by_offset = {row.offset: row for row in rows}
    failed = frame.filter(pl.col(OFFSET).is_in(list(by_offset)))
    values = encoder_of("json").encode(failed)
    return [
        DeadLetter(
            source=source,
            offset=offset,
            time_ms=by_offset[offset].time_ms,
            written_ms=now_ms,
            reason=by_offset[offset].reason,
            detail=by_offset[offset].detail,
            value=value,
            key=None,
            stage=stage,
        )
        for offset, value in zip(failed.get_column(OFFSET).to_list(), values, strict=True)
    ]


def _letter(fetched: Fetched, position: int, *, stage: str, now_ms: int, why: tuple[str, str]) -> DeadLetter:
    records = fetched.records
    return DeadLetter(
        source=fetched.source,
        offset=int(fetched.offsets[position]),
        time_ms=int(records.times_ms[position]),
        written_ms=now_ms,
        reason=str(why[0]),
        detail=why[1],
        value=records.values[position],
        key=records.keys[position] if records.keys is not None else None,
        stage=stage,
        headers=(records.headers[position] if records.headers is not None else None) or {},
    )
