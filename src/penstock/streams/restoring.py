"""A partition's stage as it was when it last committed: the newest snapshot, and the changes since."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import CorruptState
from penstock.log.port import Admin
from penstock.log.records import TopicPartition
from penstock.streams.plan import StagePlan
from penstock.streams.stage import Stage
from penstock.streams.stage_state import begins_anew, next_offset_of
from penstock.streams.state import Snapshot, SnapshotFolder, mark_of

__all__ = ["Restored", "Restorer"]

log = logging.getLogger(__name__)

READ_RECORDS_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Restored:
    """`changes_end` is the offset of the changelog up to which its changes are in it, `changes_bytes` how much
    was read of it.
    """

    stage: Stage
    changes_end: int
    changes_bytes: int
    mark: bytes
    """Of the last changes."""


class Restorer:
    """Brings stages back. Blocks."""

    def __init__(self, admin: Admin, folder: Path) -> None:
        self._admin = admin
        self._folder = folder

    def snapshots(self, plan: StagePlan, partition: int) -> SnapshotFolder:
        return SnapshotFolder(self._folder / plan.name / str(partition))

    def restore(self, plan: StagePlan, source: TopicPartition, committed: int | None) -> Restored:
        """The state as of offset `committed` of the source, where the group goes on. Where somebody has reset
        the group, that is none that is known, and it begins anew there.

        Raises `CorruptState` or `CorruptRecords` where nothing whole is left to begin with,
        `ConfigurationError` where the state is of other operators, `StorageFailed`.
        """
        changes = TopicPartition(plan.changes_topic, source.partition)
        begin, end = self._bounds(changes)
        if begin < end:
            last = self._admin.read(changes, end - 1, records_max=1)
            reached = next_offset_of(last.records.values[-1])
            if reached != committed:
                log.warning(
                    "%s goes on at offset %s, with a state as of %s: the group was reset, and it begins anew",
                    source,
                    "0" if committed is None else committed,
                    reached,
                )
                return Restored(
                    stage=Stage(plan, source, anew=True), changes_end=end, changes_bytes=0, mark=mark_of(b"")
                )
        return self._restored(plan, source, changes, (begin, end))

    def _restored(
        self, plan: StagePlan, source: TopicPartition, changes: TopicPartition, bounds: tuple[int, int]
    ) -> Restored:
        """From the newest snapshot that can be read and be followed by what comes after it."""
        failure: CorruptState | None = None
        for snapshot in self._candidates(plan, source, changes, bounds):
            try:
                return self._followed(plan, source, changes, (snapshot, bounds[1]))
            except CorruptState as error:
                failure = error
                if snapshot is not None:
                    log.warning("%s: its snapshot at %d is not used: %s", source, snapshot.offset, error)
        begin = bounds[0]
        if failure is not None and not begin:
            raise failure
        raise CorruptState(
            f"the state of {source} is gone: its changes are kept from offset {begin} on, and there is no "
            "whole snapshot from before that",
            hint=f"bring back the snapshots in {self._folder}, or reset the group: it begins anew there",
        ) from failure

    def _candidates(
        self, plan: StagePlan, source: TopicPartition, changes: TopicPartition, bounds: tuple[int, int]
    ) -> Iterator[Snapshot | None]:
        """Snapshots that changes follow without a gap; None for the beginning of the changelog, where it still
        has that. Those of another log go.
        """
        begin, end = bounds
        folder = self.snapshots(plan, source.partition)
        for offset in folder.forget_after(end):
            log.warning(
                "%s: its snapshot at %d is removed: the changelog ends at %d, so it is of another log",
                *(source, offset, end),
            )
        for snapshot in folder.newest_first():
            if snapshot.offset < begin:
                break
            if snapshot.offset > begin:
                before = self._admin.read(changes, snapshot.offset - 1, records_max=1)
                if mark_of(before.records.values[0]) != snapshot.mark:
                    log.warning(
                        "%s: its snapshot at %d is removed: other changes came before it, in another log",
                        *(source, snapshot.offset),
                    )
                    folder.forget(snapshot.offset)
                    continue
            yield snapshot
        if not begin:
            yield None

    def _followed(
        self,
        plan: StagePlan,
        source: TopicPartition,
        changes: TopicPartition,
        span: tuple[Snapshot | None, int],
    ) -> Restored:
        """A snapshot, or the empty state, with the changes up to that end. Raises `CorruptState`."""
        snapshot, end = span
        stage = Stage(plan, source, snapshot.state if snapshot is not None else None)
        offset = snapshot.offset if snapshot is not None else 0
        mark = snapshot.mark if snapshot is not None else mark_of(b"")
        size = 0
        while offset < end:
            fetched = self._admin.read(changes, offset, records_max=READ_RECORDS_MAX)
            if not len(fetched.records):
                break
            for value in fetched.records.values:
                if begins_anew(value):
                    stage = Stage(plan, source)
                stage.apply_changes(value)
                size += len(value)
            mark = mark_of(fetched.records.values[-1])
            offset = fetched.next_offset
        return Restored(stage=stage, changes_end=max(offset, end), changes_bytes=size, mark=mark)

    def _bounds(self, changes: TopicPartition) -> tuple[int, int]:
        for info in self._admin.topics():
            if info.spec.name == changes.topic:
                return info.begins[changes.partition], info.ends[changes.partition]
        return 0, 0
