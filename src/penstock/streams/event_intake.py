"""What a stage takes in that reads a topic which anybody may produce into: records, as events in time.

Undecodable records and rows that fail an expectation become dead letters, late events are set apart; the rest
is one frame, with the watermark before and after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import DeadLetter, letters_of_bad, letters_of_failed
from penstock.streams.decoding.decoded import Decoded
from penstock.streams.decoding.formats import Format, decoder_of
from penstock.streams.expectations import Expectations
from penstock.streams.intake import Instant, Intake, IntakeStatistics, Part, Taken
from penstock.streams.operator import DELETED, OFFSET, TIME, Moment
from penstock.streams.reasons import Reason
from penstock.streams.refusing import letters_of_records
from penstock.streams.schema import StreamSchema
from penstock.streams.tombstones import taken, tombstones
from penstock.streams.watermark import WatermarkConfig

__all__ = ["EventIntakeConfig"]


@dataclass(frozen=True, kw_only=True)
class EventIntakeConfig:
    """`stage` is whom dead letters are from."""

    stage: str
    schema: StreamSchema
    form: Format
    watermark: WatermarkConfig
    expectations: Expectations | None = None
    ahead_ms: int = 86_400_000
    table_key: tuple[str, ...] = ()
    """Of a table: its key. A record without a value says that its key is gone."""

    def build(self, source: TopicPartition, state: bytes | None) -> Intake:
        return _EventIntake(self, source, state)


class _EventIntake:
    def __init__(self, config: EventIntakeConfig, source: TopicPartition, state: bytes | None) -> None:
        self._config = config
        self._source = source
        self._decoder = decoder_of(config.form, config.schema, ahead_ms=config.ahead_ms)
        self._watermark = config.watermark.build(state)
        self._empty = pl.DataFrame(schema=config.schema.frame_schema)
        if config.table_key:
            self._empty = self._empty.with_columns(pl.lit(value=False).alias(DELETED))
        self._was_idle = False
        self._rows = 0
        self._bad = 0
        self._late = 0

    @property
    def idle(self) -> bool:
        return self._watermark.idle

    @property
    def watermark_ms(self) -> int:
        return self._watermark.watermark_ms

    def take(self, fetched: Fetched, instant: Instant) -> Taken:
        if self._config.table_key:
            frame, dead = self._table(fetched, instant)
        else:
            frame, dead = self._good(self._decoded(fetched, instant), instant)
        before_ms = self._watermark.watermark_ms
        late = self._watermark.split(frame.get_column(TIME).to_numpy())
        self._was_idle = False
        moment = Moment(
            watermark_ms=before_ms,
            next_watermark_ms=self._watermark.watermark_ms,
            now_ms=instant.now_ms,
        )
        self._rows += frame.height
        self._bad += len(dead)
        if not late.any():
            return Taken(parts=(Part(frame=frame, moment=moment),), dead=dead)
        self._late += int(late.sum())
        mask = pl.Series(late)
        return Taken(
            parts=(Part(frame=frame.filter(~mask), moment=moment),),
            late=Part(frame=frame.filter(mask), moment=moment),
            dead=dead,
        )

    def _decoded(self, fetched: Fetched, instant: Instant) -> Decoded:
        return self._decoder.decode(fetched.records, fetched.offsets, instant.now_ms)

    def _table(self, fetched: Fetched, instant: Instant) -> tuple[pl.DataFrame, list[DeadLetter]]:
        """Rows of a table, and its keys that are gone."""
        values = fetched.records.values
        if b"" not in values:
            frame, dead = self._good(self._decoded(fetched, instant), instant)
            return frame.with_columns(pl.lit(value=False).alias(DELETED)), dead
        kept = [place for place, value in enumerate(values) if value]
        frame, dead = self._good(self._decoded(taken(fetched, kept), instant), instant)
        gone = taken(fetched, [place for place, value in enumerate(values) if not value])
        removed, bad = tombstones(gone, self._config.table_key, self._empty)
        dead += letters_of_records(
            bad, Reason.SCHEMA, "its key is none of the table", stage=self._config.stage, now_ms=instant.now_ms
        )
        frame = pl.concat([frame.with_columns(pl.lit(value=False).alias(DELETED)), removed])
        return frame.sort(OFFSET), dead

    def _good(self, decoded: Decoded, instant: Instant) -> tuple[pl.DataFrame, list[DeadLetter]]:
        """The rows that are as declared, and letters of the others."""
        whose = (self._source, self._config.stage, instant.now_ms)
        dead = letters_of_bad(decoded, *whose) if decoded.bad else []
        if self._config.expectations is None:
            return decoded.frame, dead
        checked = self._config.expectations.check(decoded.frame)
        if checked.failures:
            dead += letters_of_failed(decoded, checked.failed, checked.failures, *whose)
        return checked.frame, dead

    def tick(self, instant: Instant) -> Sequence[Part]:
        before_ms = self._watermark.watermark_ms
        self._watermark.tick(instant.monotonic_ms)
        after_ms = self._watermark.watermark_ms
        idle = self._watermark.idle
        if after_ms == before_ms and idle == self._was_idle:
            return ()
        self._was_idle = idle
        moment = Moment(watermark_ms=before_ms, next_watermark_ms=after_ms, now_ms=instant.now_ms)
        return (Part(frame=self._empty, moment=moment),)

    def take_changes(self) -> bytes:
        return self._watermark.take_changes()

    def apply_changes(self, changes: bytes) -> None:
        self._watermark.apply_changes(changes)

    def snapshot(self) -> bytes:
        return self._watermark.snapshot()

    def statistics(self) -> IntakeStatistics:
        return IntakeStatistics(rows=self._rows, late=self._late, bad=self._bad, watermark_ms=self.watermark_ms)
