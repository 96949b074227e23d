"""A stage of one partition: records in, records and effects out, with no I/O and no clock.

What it gives depends on the records and their order alone, not on how they are cut into batches. All of its
state can be taken out whole (`snapshot`), followed by what each batch changed (`take_changes`), and brought
back.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.closed import closed_of
from penstock.streams.dead_letters import DeadLetter
from penstock.streams.intake import Instant, IntakeStatistics, Part
from penstock.streams.isolating import FailedRow
from penstock.streams.made_rows import MadeRows, put_watched, watched
from penstock.streams.operator import Moment, Operator, TwoInput, TwoMoment
from penstock.streams.outputs import Append, Effect, Outlet, Put
from penstock.streams.plan import (
    CLOSED,
    LATE,
    UPDATES,
    BranchStep,
    JoinStep,
    Output,
    Port,
    StagePlan,
    Step,
    TransformStep,
    is_made,
)
from penstock.streams.reasons import Reason
from penstock.streams.refusing import (
    Refusal,
    Refused,
    late_replayed,
    letters_of_failed,
    letters_of_records,
)
from penstock.streams.scoring import placed
from penstock.streams.stage_state import (
    StageState,
    check_fingerprints,
    encode_state,
    fingerprints_of,
    read_state,
)
from penstock.streams.updating import updates_of

__all__ = ["Stage", "StageResult", "StageStatistics"]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a batch, or time alone, came to."""

    appends: Sequence[Append]
    effects: Sequence[Effect]
    dead: Sequence[DeadLetter]
    rows: int
    next_offset: int | None
    """Where the partition goes on; None before its first record."""

    @property
    def empty(self) -> bool:
        """Whether nothing came of it that anybody would see."""
        return not (self.appends or self.effects or self.dead)


class StageStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one partition. `operators` are by step what its operator counts, as far as it does."""

    intake: IntakeStatistics
    dead: int
    operators: dict[str, object]


_Accept = Callable[[pl.DataFrame, Moment], None]


class Stage:
    """`source` is the partition that it is of, `state` a snapshot. `anew` says that its first changes are to
    be the end of all that were before.

    Raises `CorruptState` for a snapshot that cannot be read, and `ConfigurationError` for one that was made by
    operators that are not those of the plan.
    """

    def __init__(
        self, plan: StagePlan, source: TopicPartition, state: bytes | None = None, *, anew: bool = False
    ) -> None:
        self._anew = anew
        kept = read_state(state, source) if state is not None else None
        self.plan = plan
        self.source = source
        self._fingerprints = fingerprints_of(plan)
        self._held: dict[str, str] = {}
        """Of the operators that have had any changes."""
        if kept is not None:
            self._check(kept)
        self._intake = plan.intake.build(source, kept.intake if kept is not None else None)
        states = {name: content for name, (_, content) in kept.steps.items()} if kept is not None else {}
        self._single: dict[str, Operator] = {
            step.name: step.config.build(states.get(step.name)) for step in plan.steps if isinstance(step, Step)
        }
        self._joins: dict[str, TwoInput] = {
            step.name: step.config.build(states.get(step.name))
            for step in plan.steps
            if isinstance(step, JoinStep)
        }
        self._operators: dict[str, Operator | TwoInput] = {**self._single, **self._joins}
        self._joined: dict[str, pl.DataFrame] = {}
        """What came of joins, without its rows."""
        self._inputs: tuple[TwoMoment, TwoMoment] | None = None
        self._fetched: Fetched | None = None
        self._outlets: dict[str, Outlet] = {
            output.name: output.config.build(source, kept.outlets.get(output.name) if kept else None)
            for output in plan.outputs
        }
        self._targets = self._wired(plan)
        self.next_offset: int | None = kept.next_offset if kept is not None else None
        self._committed: dict[str, list[str]] = kept.effects if kept is not None else {}
        self._names: dict[str, list[str]] = {}
        """Those of effects since changes were taken last."""
        self._dead_count = 0
        self.made_rows: MadeRows | None = None
        """Who looks after functions of rows that are no records."""
        self.pending = False
        """Whether it may have changed since changes were taken: then a snapshot has more than the changelog."""
        self._begin()

    def _begin(self) -> None:
        self._appends: list[Append] = []
        self._effects: list[Effect] = []
        self._dead: list[DeadLetter] = []

    # What comes in

    def process(self, fetched: Fetched, instant: Instant) -> StageResult:
        """Whatever the records hold: what cannot be read becomes dead letters."""
        assert fetched.source == self.source, "records of this stage's partition"
        self._fetched = fetched
        self.pending = True
        taken = self._intake.take(fetched, instant)
        self.next_offset = fetched.next_offset
        self._dead += taken.dead
        if taken.late is not None:
            if Port(name=LATE) in self._targets:
                self._flow(Port(name=LATE), taken.late.frame, taken.late.moment)
            else:
                self._too_late(taken.late)
        return self._run(taken.parts)

    def refuse(self, fetched: Fetched, reason: Reason, detail: str, instant: Instant) -> StageResult:
        """Makes dead letters of records without looking into them."""
        self.pending, self.next_offset = True, fetched.next_offset
        self._dead += letters_of_records(fetched, reason, detail, stage=self.plan.name, now_ms=instant.now_ms)
        return self._run(())

    def tick(self, instant: Instant) -> StageResult:
        """Real time has passed, and all that was in the partition has been processed."""
        for name, outlet in self._outlets.items():
            self._put(name, outlet.tick(instant.now_ms))
        parts = self._intake.tick(instant)
        self.pending = self.pending or bool(parts)
        return self._run(parts)

    def _run(self, parts: Sequence[Part]) -> StageResult:
        for part in parts:
            self._inputs = part.inputs
            self._flow(Port(name=part.input), part.frame, part.moment)
        result = StageResult(
            appends=self._appends,
            effects=self._effects,
            dead=self._dead,
            rows=sum(part.frame.height for part in parts),
            next_offset=self.next_offset,
        )
        self._dead_count += len(self._dead)
        self._begin()
        return result

    def _flow(self, port: Port, frame: pl.DataFrame, moment: Moment) -> None:
        for accept in self._targets.get(port, ()):
            accept(frame, moment)

    # How frames go through it

    def _wired(self, plan: StagePlan) -> dict[Port, list[_Accept]]:
        targets: dict[Port, list[_Accept]] = defaultdict(list)
        for step in plan.steps:
            match step:
                case TransformStep():
                    targets[step.after].append(self._transforming(step))
                case BranchStep():
                    targets[step.after].append(self._branching(step))
                case JoinStep():
                    targets[step.left].append(self._joining(step, left=True))
                    targets[step.right].append(self._joining(step, left=False))
                case Step():
                    targets[step.after].append(self._stepping(step))
        for output in plan.outputs:
            targets[output.after].append(self._putting(output))
        return dict(targets)

    def _stepping(self, step: Step) -> _Accept:
        operator = self._single[step.name]
        port = Port(step.name)
        beside = {Port(step.name, CLOSED): closed_of, Port(step.name, UPDATES): updates_of}

        def accept(frame: pl.DataFrame, moment: Moment) -> None:
            self._flow(port, operator.process(frame, moment), moment)
            for also, taken in beside.items():
                if also in self._targets:
                    self._flow(also, taken(operator, (self.next_offset or 1) - 1), moment)

        return accept

    def _transforming(self, step: TransformStep) -> _Accept:
        port = Port(step.name)
        made = is_made(step.after, self.plan.steps)
        # Of a record between stages not all rows are at fault for one.
        apart = made or self.plan.internal
        transform = placed(step.transform, self.plan, self.source, made=made)

        def accept(frame: pl.DataFrame, moment: Moment) -> None:
            done = watched(self.made_rows if apart else None, step.name, transform, frame)
            if done.failed:
                self._failed(frame, done.failed, moment, made=made)
            self._flow(port, done.frame, moment)

        return accept

    def _branching(self, step: BranchStep) -> _Accept:
        made = is_made(step.after, self.plan.steps)

        def accept(frame: pl.DataFrame, moment: Moment) -> None:
            done = step.branches.apply(frame)
            if done.failed:
                self._failed(frame, done.failed, moment, made=made)
            for name, rows in done.frames.items():
                self._flow(Port(step.name, name), rows, moment)

        return accept

    def _joining(self, step: JoinStep, *, left: bool) -> _Accept:
        operator = self._joins[step.name]
        port = Port(step.name)

        def accept(frame: pl.DataFrame, moment: Moment) -> None:
            assert self._inputs is not None, "a join stands where two inputs come in"
            before, after = self._inputs
            reached_ms = operator.output_watermark_ms(before)
            pieces = operator.process_left(frame, after) if left else operator.process_right(frame, after)
            now = Moment(watermark_ms=reached_ms, next_watermark_ms=reached_ms, now_ms=moment.now_ms)
            for piece in pieces:
                self._joined[step.name] = piece.clear()
                self._flow(port, piece, now)
            further_ms = max(operator.output_watermark_ms(after), reached_ms)
            if further_ms > reached_ms and step.name in self._joined:
                now = Moment(watermark_ms=reached_ms, next_watermark_ms=further_ms, now_ms=moment.now_ms)
                self._flow(port, self._joined[step.name], now)

        return accept

    def _failed(self, frame: pl.DataFrame, rows: Sequence[FailedRow], moment: Moment, *, made: bool) -> None:
        refusal = Refusal(stage=self.plan.name, now_ms=moment.now_ms)
        at = Refused(plan=self.plan, source=self.source, fetched=self._fetched, made=made)
        self._dead += letters_of_failed(frame, rows, at, refusal)

    def _too_late(self, part: Part) -> None:
        """Late events that go nowhere are only counted; but replayed ones are not to vanish once more."""
        assert self._fetched is not None, "they have just come"
        if rows := late_replayed(self._fetched, part.frame, part.moment.next_watermark_ms):
            self._failed(part.frame, rows, part.moment, made=False)

    def _putting(self, output: Output) -> _Accept:
        outlet = self._outlets[output.name]
        made = is_made(output.after, self.plan.steps)
        apart = made or self.plan.internal

        def accept(frame: pl.DataFrame, moment: Moment) -> None:
            rows = self.made_rows if apart else None
            put = put_watched(rows, output.name, outlet, frame, moment, self._intake.idle)
            if put.failed:
                self._failed(frame, put.failed, moment, made=made)
            self._put(output.name, put)

        return accept

    def _put(self, output: str, put: Put) -> None:
        self._appends += put.appends
        if put.effects:
            self._effects += put.effects
            self._names.setdefault(output, []).extend(each.name for each in put.effects)

    # State

    def take_changes(self) -> bytes:
        """What its state has become since the last call; b"" where it is what it was."""
        intake = self._intake.take_changes()
        steps = {
            name: (self._fingerprints[name], changes)
            for name, operator in self._operators.items()
            if (changes := operator.take_changes())
        }
        outlets = {
            name: changes for name, outlet in self._outlets.items() if (changes := outlet.take_changes())
        }
        self._held |= {name: self._fingerprints[name] for name in steps}
        anew, self._anew, self.pending = self._anew, False, False
        self._committed, self._names = self._names, {}
        return encode_state(
            StageState(
                anew=anew,
                next_offset=self.next_offset,
                intake=intake,
                steps=steps,
                outlets=outlets,
                effects=self._committed,
                fingerprints=self._held,
            )
        )

    def apply_changes(self, changes: bytes) -> None:
        """Takes on what an equal stage changed. Raises `CorruptState`, `ConfigurationError` as the making
        does.
        """
        state = read_state(changes, self.source)
        self._check(state)
        if state.intake:
            self._intake.apply_changes(state.intake)
        for name, (_, content) in state.steps.items():
            if name in self._operators:
                self._operators[name].apply_changes(content)
        for name, content in state.outlets.items():
            if name in self._outlets:
                self._outlets[name].apply_changes(content)
        self.next_offset = state.next_offset
        self._committed = state.effects

    def snapshot(self) -> bytes:
        """All of its state, after `take_changes`."""
        return encode_state(
            StageState(
                next_offset=self.next_offset,
                intake=self._intake.snapshot(),
                steps={
                    name: (self._fingerprints[name], operator.snapshot())
                    for name, operator in self._operators.items()
                },
                outlets={name: outlet.snapshot() for name, outlet in self._outlets.items()},
                effects=self._committed,
                fingerprints=self._held,
            )
        )

    def recover(self) -> None:
        """Publishes what was committed and maybe not published, once its state is back. Does I/O. Raises
        `StorageFailed`.
        """
        for name, outlet in self._outlets.items():
            outlet.recover(self._committed.get(name, ()))

    @property
    def watermark_ms(self) -> int:
        return self._intake.watermark_ms

    def statistics(self) -> StageStatistics:
        return StageStatistics(
            intake=self._intake.statistics(),
            dead=self._dead_count,
            operators={
                name: counted()
                for name, operator in self._operators.items()
                if (counted := getattr(operator, "statistics", None)) is not None
            },
        )

    def _check(self, state: StageState) -> None:
        """That it is state of the operators that there are."""
        check_fingerprints(self.plan.name, self._fingerprints, state)
        self._held |= {
            name: self._fingerprints[name]
            for name in (*state.steps, *state.fingerprints)
            if name in self._fingerprints
        }
