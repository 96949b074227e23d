"""Dead letters of records and rows that a stage could not use after they were decoded."""

from collections.abc import Sequence

import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import MADE, DeadLetter
from penstock.streams.encoding import encoder_of
from penstock.streams.isolating import FailedRow
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
    """Of rows that no record has the bytes of, as JSON: they came from another stage, or were made in this one.
    Several may have the offset of the same record.
    """
    values = encoder_of("json").encode(frame[[row.row for row in rows]])
    return [
        DeadLetter(
            source=source,
            offset=row.offset,
            time_ms=row.time_ms,
            written_ms=now_ms,
            reason=row.reason,
            detail=row.detail,
            value=value,
            key=None,
            stage=stage,
            headers={MADE: b"1"},
        )
        for row, value in zip(rows, values, strict=True)
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
