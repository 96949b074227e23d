"""A partition that a worker has: its stage, what is wrong with it, and what was counted of it."""

from collections.abc import Mapping

import msgspec

from penstock.log.records import Fetched, TopicPartition
from penstock.streams.containment import Containment
from penstock.streams.inquest import Findings
from penstock.streams.made_rows import MadeRows
from penstock.streams.micro_batch import MicroBatch
from penstock.streams.plan import StagePlan
from penstock.streams.reasons import Reason
from penstock.streams.restoring import Restored
from penstock.streams.stage import Stage
from penstock.streams.stage_state import shape_of
from penstock.streams.state import mark_of
from penstock.streams.suspect_folder import SuspectFolder
from penstock.streams.suspicion import Suspect, pieces
from penstock.streams.watchdog import Watchdog
from penstock.streams.worker_config import PartitionStatus

__all__ = ["PAUSE_S", "PAUSE_S_MAX", "Owned"]

PAUSE_S = 0.1
PAUSE_S_MAX = 5.0
"""Between two tries of what waits, the first and the longest pause."""


class Owned:
    """Its `stage` is None until its state has been brought back, and after a batch of it has failed."""

    def __init__(self, plan: StagePlan, source: TopicPartition) -> None:
        self.plan = plan
        self.source = source
        self.changes = TopicPartition(plan.changes_topic, source.partition)
        self.stage: Stage | None = None
        self.problem = ""
        self.waits = ""
        """For what it waits, if it does: another system, or a model that answers nobody."""
        self.waits_until_s = 0.0
        self.waits_told, self.waits_told_s = "", float("-inf")
        """What the log was told of that, and when."""
        self._put_off_times = 0
        self.changes_end = 0
        """The offset of the changelog up to which it is in `stage`."""
        self.mark = bytes(8)
        """Of the changes before that."""
        self.unsaved_bytes = 0
        """Changes since the last snapshot."""
        self.examined = False
        """Whether it is known with what of it to be careful."""
        self._suspect: Suspect | None = None
        self._made_rows: MadeRows | None = None
        self._crashes = 0
        self._rows = 0
        self._rows_told = 0
        self._late = 0
        self._dead = 0
        self._expired = 0

    # Its life

    def careful(self, findings: Findings, containment: Containment) -> None:
        """What its owners before ended of, which is looked into once."""
        self.examined = True
        self._suspect = findings.suspect
        suspects, watchdog = containment.suspects, containment.watchdog
        self._made_rows = MadeRows(
            self.source, suspects, watchdog, findings.rows, shape_of(self.plan), findings.ends
        )

    def restored(self, restored: Restored, position: int) -> None:
        """It goes on at that offset of its source, which it commits also before there is any record: who is no
        owner any more is fenced by that.
        """
        self.stage = restored.stage
        self.waits = ""
        self.stage.next_offset = position
        self.stage.made_rows = self._made_rows
        self.changes_end = restored.changes_end
        self.mark = restored.mark
        self.unsaved_bytes = restored.changes_bytes

    def drop(self) -> None:
        """Its state is not what is committed."""
        self.stage = None

    def put_off(self, reason: str, now_s: float) -> None:
        """Its records wait, and are tried again later, each time after a longer pause."""
        self.drop()
        self.waits = reason
        self.waits_until_s = now_s + min(PAUSE_S_MAX, PAUSE_S * 2.0**self._put_off_times)
        self._put_off_times += 1

    def stop(self, problem: str) -> None:
        self.stage = None
        self.problem = problem

    def suspect(self, suspect: Suspect) -> None:
        """Something failed on these of its records: next they are processed in parts."""
        ends = suspect.ends if self._suspect is None else self._suspect.ends
        self._suspect = msgspec.structs.replace(suspect, ends=ends)

    @property
    def doubted(self) -> bool:
        """Whether its owners have ended at work on it, and nobody is suspected yet."""
        return self._made_rows is not None and self._made_rows.doubted

    @property
    def suspected(self) -> bool:
        """Whether some of its records are processed in parts."""
        return self._suspect is not None

    @property
    def accused(self) -> bool:
        """Whether a single one of its records is to be refused already."""
        return self._suspect is not None and self._suspect.found

    # Its work

    def process(self, fetched: Fetched, batch: MicroBatch, watchdog: Watchdog) -> Fetched:
        """What of it was processed: with suspects among the records only the first part of them, so that
        each step towards the culprit is committed.

        Raises what fails in it; `watchdog` then knows on which records.
        """
        assert self.stage is not None, "it is running"
        suspect = self._suspect
        position = self.stage.next_offset
        piece, culprit = (fetched, False) if suspect is None else next(pieces(fetched, suspect))
        if culprit:
            assert suspect is not None, "there is no culprit without a suspect"
            result = self.stage.refuse(piece, Reason(suspect.reason), suspect.detail, batch.instant)
        else:
            watchdog.begin(piece)
            result = self.stage.process(piece, batch.instant)
            watchdog.end()
        batch.add(self.source, result)
        self._rows += result.rows
        if position is not None:
            self._expired += int(piece.offsets[0]) - position
        return piece

    def tick(self, batch: MicroBatch) -> None:
        assert self.stage is not None, "it is running"
        result = self.stage.tick(batch.instant)
        if not result.empty:
            batch.add(self.source, result)

    def committed(self, ends: Mapping[TopicPartition, int], changes: bytes, suspects: SuspectFolder) -> None:
        """A batch that it has a part in is durable, with these changes."""
        assert self.stage is not None, "it is running"
        self._put_off_times = 0
        self.changes_end = ends[self.changes]
        self.mark = mark_of(changes)
        self.unsaved_bytes += len(changes)
        next_offset = self.stage.next_offset
        if self._made_rows is not None:
            self._crashes += self._made_rows.committed(next_offset or 0)
        if self._suspect is not None and next_offset is not None and next_offset >= self._suspect.end:
            suspects.clear(self.source)
            self._crashes += self._suspect.ends
            self._suspect = None

    # What it tells

    def status(self, lag: int, elapsed_s: float) -> PartitionStatus:
        rows = self._rows - self._rows_told
        self._rows_told = self._rows
        state = "stuck" if self.problem else "running" if self.stage is not None else "restoring"
        state = "waiting" if self.waits else state
        watermark_ms, keys = None, 0
        if self.stage is not None:
            counted = self.stage.statistics()
            dropped = sum(getattr(each, "dropped", 0) for each in counted.operators.values())
            self._late, self._dead = counted.intake.late + dropped, counted.dead
            watermark_ms = counted.intake.watermark_ms if counted.intake.watermark_ms > -(2**61) else None
            keys = sum(getattr(each, "keys", 0) for each in counted.operators.values())
        return PartitionStatus(
            stage=self.plan.name,
            topic=self.source.topic,
            partition=self.source.partition,
            state=state,
            problem=self.problem or self.waits,
            lag=lag,
            rows=self._rows,
            rows_per_s=rows / elapsed_s if 0 < elapsed_s < float("inf") else 0.0,
            late=self._late,
            dead=self._dead,
            expired=self._expired,
            crashes=self._crashes,
            suspects=self._suspects_told(),
            keys=keys,
            watermark_ms=watermark_ms,
        )

    def _suspects_told(self) -> str:
        rows = self._made_rows.accused if self._made_rows is not None else None
        return "; ".join(str(each) for each in (self._suspect, rows) if each is not None)
