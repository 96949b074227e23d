"""When snapshots are taken, and what they let go of the changelog. They are written by a thread."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from penstock.core.errors import PenstockError, StorageFailed
from penstock.core.failpoints import Failpoints
from penstock.log.port import Admin
from penstock.log.records import TopicPartition
from penstock.streams.owned import Owned
from penstock.streams.restoring import Restorer
from penstock.streams.state import Snapshot
from penstock.streams.worker_config import WorkerConfig

__all__ = ["Snapshotting"]

log = logging.getLogger(__name__)

SHORTEN_EVERY_S = 10.0
LEAVING_BYTES_MIN = 256 * 1024
"""A partition that is given up with fewer changes than that is as fast brought back without a snapshot."""


@dataclass(frozen=True)
class _Writing:
    changes: TopicPartition
    future: "Future[int]"


class Snapshotting:
    """Of all partitions of a worker. One snapshot is written at a time. Topics between stages are shortened,
    too.
    """

    def __init__(self, config: WorkerConfig, restorer: Restorer, admin: Admin, failpoints: Failpoints) -> None:
        self._config = config
        self._restorer = restorer
        self._admin = admin
        self._failpoints = failpoints
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._writing: _Writing | None = None
        self._sizes: dict[TopicPartition, int] = {}
        self._shortened_s = float("-inf")
        self._taken_s: dict[TopicPartition, float] = {}

    def look(self, running: Sequence[Owned], now_s: float) -> None:
        """Takes one where it is due, between two batches."""
        self._finish()
        if now_s - self._shortened_s >= SHORTEN_EVERY_S:
            self._shortened_s = now_s
            self._shorten(running)
        if self._writing is not None:
            return
        for owned in running:
            if self._due(owned, now_s):
                self._taken_s[owned.source] = now_s
                self._begin(owned)
                return

    def keep(self, leaving: Sequence[Owned]) -> None:
        """Those of partitions that are given up, before another worker has them."""
        for owned in leaving:
            if owned.unsaved_bytes >= LEAVING_BYTES_MIN and not _ahead(owned):
                self._begin(owned)
                self._finish(wait=True)

    def close(self) -> None:
        self._finish(wait=True)
        self._thread.shutdown()

    def _shorten(self, running: Sequence[Owned]) -> None:
        """Topics that are Penstock's own need not keep what is committed: nobody reads it again."""
        for owned in running:
            next_offset = owned.stage.next_offset if owned.stage is not None else None
            if not owned.plan.passing or next_offset is None:
                continue
            try:
                self._admin.truncate(owned.source, next_offset)
            except PenstockError as error:
                log.warning("%s was not shortened: %s", owned.source, error)

    def _due(self, owned: Owned, now_s: float) -> bool:
        if not owned.unsaved_bytes or _ahead(owned):
            return False
        since_s = now_s - self._taken_s.setdefault(owned.source, now_s)
        enough = max(self._config.snapshot_bytes, 2 * self._sizes.get(owned.source, 0))
        return owned.unsaved_bytes >= enough or since_s >= self._config.snapshot_every_s

    def _begin(self, owned: Owned) -> None:
        assert owned.stage is not None, "it is running"
        snapshot = Snapshot(offset=owned.changes_end, state=owned.stage.snapshot(), mark=owned.mark)
        owned.unsaved_bytes = 0
        self._sizes[owned.source] = len(snapshot.state)
        folder = self._restorer.snapshots(owned.plan, owned.source.partition)

        def write() -> int:
            self._failpoints.pass_by("snapshot")
            return folder.write(snapshot)

        self._writing = _Writing(owned.changes, self._thread.submit(write))

    def _finish(self, *, wait: bool = False) -> None:
        writing = self._writing
        if writing is None or not (wait or writing.future.done()):
            return
        self._writing = None
        try:
            needed = writing.future.result()
            if needed > 1:
                # The changes before it tell that it is of this log.
                self._admin.truncate(writing.changes, needed - 1)
        except StorageFailed as error:
            log.warning("%s: no snapshot was kept: %s; the changelog still has it all", writing.changes, error)
        except PenstockError as error:
            log.warning("%s was not shortened: %s", writing.changes, error)


def _ahead(owned: Owned) -> bool:
    """Whether time alone has changed it since its last commit: followed by the changes of the next one, a
    snapshot would have that twice.
    """
    return owned.stage is not None and owned.stage.pending
