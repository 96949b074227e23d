"""Dead letters of records and rows that a stage could not use after they were decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import MADE, REPLAYED_FROM, DeadLetter
from penstock.streams.encoding import encoder_of
from penstock.streams.frame_records import event_of
from penstock.streams.isolating import FailedRow
from penstock.streams.operator import OFFSET, TIME
from penstock.streams.plan import StagePlan
from penstock.streams.reasons import Reason

__all__ = [
    "Refusal",
    "Refused",
    "late_replayed",
    "letters_of_failed",
    "letters_of_later",
    "letters_of_made",
    "letters_of_parts",
    "letters_of_records",
    "letters_of_rows",
]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Who refuses rows, and when."""

    stage: str
    now_ms: int


def letters_of_records(
    fetched: Fetched, reason: Reason, detail: str, *, stage: str, now_ms: int
) -> list[DeadLetter]:
    """Of records as they came."""
    return [
        _letter(fetched, position, stage=stage, now_ms=now_ms, why=(reason, detail))
        for position in range(len(fetched.records))
    ]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Where rows were refused: in a partition of a stage, which works on what was fetched. `made`: they are no
    events.
    """

    plan: StagePlan
    source: TopicPartition
    fetched: Fetched | None
    made: bool


def letters_of_failed(
    frame: pl.DataFrame, rows: Sequence[FailedRow], at: Refused, refusal: Refusal
) -> list[DeadLetter]:
    """Of rows of a stage, as they can be told there."""
    plan = at.plan
    if at.made:
        return letters_of_made(frame, rows, at.source, refusal)
    if plan.internal:
        return letters_of_later(frame, rows, at.source, plan.events_topic, refusal)
    if plan.events_form == "arrow":
        return letters_of_parts(frame, rows, at.source, refusal)
    return letters_of_rows(at.fetched, frame, rows, refusal) if at.fetched is not None else []


def letters_of_rows(
    fetched: Fetched, frame: pl.DataFrame, rows: Sequence[FailedRow], refusal: Refusal
) -> list[DeadLetter]:
    """Of rows that were decoded from those records: each with the bytes of its record. One whose offset is none
    of theirs has been given that by a function, and counts as made.
    """
    letters = []
    last = len(fetched.offsets) - 1
    positions = fetched.offsets.searchsorted([row.offset for row in rows]).tolist()
    for position, row in zip(positions, rows, strict=True):
        if position <= last and int(fetched.offsets[position]) == row.offset:
            why = (row.reason, row.detail)
            letters.append(_letter(fetched, position, stage=refusal.stage, now_ms=refusal.now_ms, why=why))
        else:
            placed = replace(row, offset=int(fetched.offsets[min(position, last)]))
            letters += letters_of_made(frame, [placed], fetched.source, refusal)
    return letters


def letters_of_made(
    frame: pl.DataFrame, rows: Sequence[FailedRow], source: TopicPartition, refusal: Refusal
) -> list[DeadLetter]:
    """Of rows that are no events, as JSON: windows that closed, and what became of them."""
    return [
        _row_letter(row, source, value, refusal, headers={MADE: b"1"})
        for row, value in zip(rows, _as_json(frame, rows), strict=True)
    ]


def letters_of_later(
    frame: pl.DataFrame, rows: Sequence[FailedRow], source: TopicPartition, events: str, refusal: Refusal
) -> list[DeadLetter]:
    """Of rows that came from another stage: each with the place of the event that it came of, in the topic
    `events`. Several may be of the same event.
    """
    letters = []
    for row, value in zip(rows, _as_json(frame, rows), strict=True):
        event = event_of(row.offset)
        if event is None:
            letters.append(_row_letter(row, source, value, refusal, headers={MADE: b"1"}))
        else:
            placed = replace(row, offset=event[1])
            letter = _row_letter(placed, TopicPartition(events, event[0]), value, refusal)
            letters.append(replace(letter, row=value))
    return letters


def letters_of_parts(
    frame: pl.DataFrame, rows: Sequence[FailedRow], source: TopicPartition, refusal: Refusal
) -> list[DeadLetter]:
    """Of rows whose records have many, in Arrow: each as a record of that row alone, as the others went on."""
    encoder = encoder_of("arrow")
    return [_row_letter(row, source, encoder.encode(frame[[row.row]])[0], refusal) for row in rows]


def late_replayed(fetched: Fetched, late: pl.DataFrame, watermark_ms: int) -> list[FailedRow]:
    """Those of the late events that were replayed."""
    headers = fetched.records.headers
    if headers is None:
        return []
    offsets = late.get_column(OFFSET).to_list()
    times_ms = late.get_column(TIME).to_list()
    positions = fetched.offsets.searchsorted(offsets).tolist()
    return [
        FailedRow(
            row=row,
            offset=offsets[row],
            time_ms=times_ms[row],
            reason=Reason.LATE,
            detail=f"its time is {(watermark_ms - times_ms[row]) / 1000:.3f} s before the watermark",
        )
        for row, position in enumerate(positions)
        if REPLAYED_FROM in (headers[position] or {})
    ]


def _as_json(frame: pl.DataFrame, rows: Sequence[FailedRow]) -> Sequence[bytes]:
    return encoder_of("json").encode(frame[[row.row for row in rows]])


def _row_letter(
    row: FailedRow,
    source: TopicPartition,
    value: bytes,
    refusal: Refusal,
    headers: Mapping[str, bytes] | None = None,
) -> DeadLetter:
    return DeadLetter(
        source=source,
        offset=row.offset,
        time_ms=row.time_ms,
        written_ms=refusal.now_ms,
        reason=row.reason,
        detail=row.detail,
        value=value,
        key=None,
        stage=refusal.stage,
        headers=headers or {},
    )


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
