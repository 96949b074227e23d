"""What a stage takes in that reads another stage: frames as they are, and event time as the other stage had
it.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import polars as pl

from penstock.core.errors import CorruptRecords, CorruptState
from penstock.log.records import Fetched, TopicPartition
from penstock.streams.dead_letters import DeadLetter
from penstock.streams.frame_records import FrameRecord, Origin, read_frame_record
from penstock.streams.intake import Instant, IntakeStatistics, Part, Taken
from penstock.streams.operator import Moment, TwoMoment
from penstock.streams.reasons import Reason
from penstock.streams.refusing import letters_of_records
from penstock.streams.tombstones import taken

__all__ = ["LEFT", "RIGHT", "FrameIntakeConfig"]

LEFT, RIGHT = "left", "right"
NEVER_MS = -(2**62)
"""The watermark where no event has been."""


class _Heard(msgspec.Struct, array_like=True):
    watermark_ms: int = NEVER_MS
    idle: bool = False


class _State(msgspec.Struct, array_like=True, kw_only=True):
    """By "partition input" what was heard of it, by input its columns as an empty frame, and the watermark.

    As changes: those that are new.
    """

    heard: dict[str, _Heard] = {}
    columns: dict[str, bytes] = {}
    watermarks: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode


@dataclass(frozen=True, kw_only=True)
class FrameIntakeConfig:
    """`inputs` are the stages that write here, by what they are called, with the number of their partitions.
    `stage` is whom dead letters are from.
    """

    inputs: Mapping[str, int]
    stage: str = ""

    def build(self, source: TopicPartition, state: bytes | None) -> "_FrameIntake":
        return _FrameIntake(self, source, state)


@dataclass
class _Input:
    """One of the inputs: how far event time is in each of its partitions, and altogether."""

    name: str
    heard: dict[int, _Heard]
    empty: pl.DataFrame | None = None
    watermark_ms: int = NEVER_MS

    @property
    def idle(self) -> bool:
        return all(each.idle for each in self.heard.values())

    def hear(self, record: FrameRecord) -> None:
        heard = self.heard.setdefault(record.origin.partition, _Heard())
        heard.watermark_ms = max(heard.watermark_ms, record.watermark_ms)
        heard.idle = record.idle
        self.advance()

    def advance(self) -> None:
        """The least of those that are not idle; the furthest where all are. Never back."""
        awake = [each.watermark_ms for each in self.heard.values() if not each.idle]
        reached_ms = min(awake) if awake else max(each.watermark_ms for each in self.heard.values())
        self.watermark_ms = max(self.watermark_ms, reached_ms)


@dataclass
class _Changed:
    heard: set[Origin] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)


class _FrameIntake:
    def __init__(self, config: FrameIntakeConfig, source: TopicPartition, state: bytes | None) -> None:
        self._source = source
        self._stage = config.stage
        self._inputs = {
            name: _Input(name, {partition: _Heard() for partition in range(count)})
            for name, count in config.inputs.items()
        }
        self._changed = _Changed()
        self._rows = 0
        self._bad = 0
        if state is not None:
            self.apply_changes(state)

    @property
    def idle(self) -> bool:
        return all(each.idle for each in self._inputs.values())

    @property
    def watermark_ms(self) -> int:
        return min(each.watermark_ms for each in self._inputs.values())

    def statistics(self) -> IntakeStatistics:
        return IntakeStatistics(rows=self._rows, late=0, bad=self._bad, watermark_ms=self.watermark_ms)

    def take(self, fetched: Fetched, instant: Instant) -> Taken:
        """Consecutive records of the same input become one frame. One that a stage did not write is bad."""
        parts: list[Part] = []
        dead: list[DeadLetter] = []
        for name, records in self._runs(self._read(fetched, dead, instant)):
            frames = [each.frame for each in records if each.frame is not None and each.frame.height]
            source = self._inputs[name]
            before_ms, before = source.watermark_ms, self._both(instant)
            for record in records:
                self._changed.heard.add(record.origin)
                source.hear(record)
            frame = pl.concat(frames) if frames else source.empty
            if frames and (source.empty is None or source.empty.schema != frames[0].schema):
                source.empty = frames[0].clear()
                self._changed.columns.add(name)
            if frame is not None:
                self._rows += frame.height
                moment = Moment(
                    watermark_ms=before_ms, next_watermark_ms=source.watermark_ms, now_ms=instant.now_ms
                )
                after = self._both(instant)
                inputs = (before, after) if before is not None and after is not None else None
                parts.append(Part(input=name, frame=frame, moment=moment, inputs=inputs))
        self._bad += len(dead)
        return Taken(parts=parts, dead=dead)

    def _both(self, instant: Instant) -> TwoMoment | None:
        """How far two inputs are. One that is idle holds nothing back."""
        if LEFT not in self._inputs:
            return None
        left, right = self._inputs[LEFT], self._inputs[RIGHT]
        return TwoMoment(
            left_watermark_ms=max(left.watermark_ms, right.watermark_ms) if left.idle else left.watermark_ms,
            right_watermark_ms=max(left.watermark_ms, right.watermark_ms) if right.idle else right.watermark_ms,
            now_ms=instant.now_ms,
            left_idle=left.idle,
            right_idle=right.idle,
        )

    def tick(self, instant: Instant) -> list[Part]:  # noqa: ARG002 - as intakes have it
        """Event time comes with the records of the stage before this one, which ticks itself."""
        return []

    def _read(self, fetched: Fetched, dead: list[DeadLetter], instant: Instant) -> Iterator[FrameRecord]:
        headers = fetched.records.headers
        for place, value in enumerate(fetched.records.values):
            where = f"{fetched.source} offset {fetched.offsets[place]}"
            try:
                yield read_frame_record(value, headers[place] if headers is not None else None, where)
            except CorruptRecords as error:
                dead += letters_of_records(
                    taken(fetched, [place]),
                    Reason.UNDECODABLE,
                    f"{error.message}; {error.hint}",
                    stage=self._stage,
                    now_ms=instant.now_ms,
                )

    def _runs(self, records: Iterator[FrameRecord]) -> Iterator[tuple[str, list[FrameRecord]]]:
        run: list[FrameRecord] = []
        for record in records:
            if record.origin.input not in self._inputs:
                continue  # of a stage that the app does not have any more
            if run and run[-1].origin.input != record.origin.input:
                yield run[-1].origin.input, run
                run = []
            run.append(record)
        if run:
            yield run[-1].origin.input, run

    def take_changes(self) -> bytes:
        changed, self._changed = self._changed, _Changed()
        if not changed.heard and not changed.columns:
            return b""
        return _encode(self._state(changed.heard, changed.columns))

    def snapshot(self) -> bytes:
        heard = {Origin(name, at) for name, each in self._inputs.items() for at in each.heard}
        return _encode(self._state(heard, set(self._inputs)))

    def _state(self, heard: set[Origin], columns: set[str]) -> _State:
        return _State(
            heard={
                f"{each.partition} {each.input}": self._inputs[each.input].heard[each.partition]
                for each in sorted(heard)
            },
            columns={
                name: _columns(empty)
                for name in sorted(columns)
                if (empty := self._inputs[name].empty) is not None
            },
            watermarks={name: each.watermark_ms for name, each in self._inputs.items()},
        )

    def apply_changes(self, changes: bytes) -> None:
        try:
            state = _decode(changes)
        except msgspec.DecodeError as error:
            raise CorruptState(
                f"{self._source}: what was heard of its inputs cannot be read: {error}"
            ) from error
        for key, heard in state.heard.items():
            partition, _, name = key.partition(" ")
            if name in self._inputs:
                self._inputs[name].heard[int(partition)] = heard
        for name, content in state.columns.items():
            if name in self._inputs:
                self._inputs[name].empty = pl.read_ipc_stream(io.BytesIO(content))
        for name, watermark_ms in state.watermarks.items():
            if name in self._inputs:
                self._inputs[name].watermark_ms = watermark_ms


def _columns(empty: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    empty.write_ipc_stream(buffer)
    return buffer.getvalue()
