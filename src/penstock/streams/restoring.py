"""A partition's stage as it was when it last committed: the newest snapshot, and the changes since."""

import logging
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import CorruptState
from penstock.log.port import Admin
from penstock.log.records import TopicPartition
from penstock.streams.plan import StagePlan
from penstock.streams.stage import Stage
from penstock.streams.stage_state import begins_anew, next_offset_of
from penstock.streams.state import SnapshotFolder

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
                return Restored(stage=Stage(plan, source, anew=True), changes_end=end, changes_bytes=0)
        stage, offset = self._begun(plan, source, begin, end)
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
            offset = fetched.next_offset
        return Restored(stage=stage, changes_end=max(offset, end), changes_bytes=size)

    def _begun(self, plan: StagePlan, source: TopicPartition, begin: int, end: int) -> tuple[Stage, int]:
        """From the newest snapshot that can be read and that changes follow without a gap. Those from beyond
        the changelog's end are of another log, and go.
        """
        folder = self.snapshots(plan, source.partition)
        for offset in folder.forget_after(end):
            log.warning(
                "%s: its snapshot at %d is removed: the changelog ends at %d, so it is of another log",
                *(source, offset, end),
            )
        for snapshot in folder.newest_first():
            if snapshot.offset < begin:
                break
            try:
                return Stage(plan, source, snapshot.state), snapshot.offset
            except CorruptState as error:
                log.warning("%s: its snapshot at %d is not used: %s", source, snapshot.offset, error)
        if begin > 0:
            raise CorruptState(
                f"the state of {source} is gone: its changes are kept from offset {begin} on, and there is no "
                "whole snapshot from before that",
                hint=f"bring back the snapshots in {self._folder}, or reset the group: it begins anew there",
            )
        return Stage(plan, source), 0

    def _bounds(self, changes: TopicPartition) -> tuple[int, int]:
        for info in self._admin.topics():
            if info.spec.name == changes.topic:
                return info.begins[changes.partition], info.ends[changes.partition]
        return 0, 0
