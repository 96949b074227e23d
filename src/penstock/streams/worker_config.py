"""What a stream worker is made of, and what it tells of itself."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.streams.batch_size import BatchSizeConfig

__all__ = ["PartitionStatus", "WorkerConfig"]


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """`group` is the app's consumer group, `identity` this process's own name among transactional producers.

    `folder` keeps snapshots and suspects. A snapshot is taken when changes of `snapshot_bytes` (or twice the
    last one's size, if that is more) came after the last, or of any size after `snapshot_every_s`. A batch
    that takes longer than `timeout_s` hangs. What had nothing to feed is looked at again after `feed_poll_s`.
    `own_process` says that nobody else needs this process, its timer and its handlers of fatal signals.
    """

    group: str
    identity: str
    folder: Path
    batch: BatchSizeConfig = field(default_factory=BatchSizeConfig)
    snapshot_bytes: int = 64 * 1024 * 1024
    snapshot_every_s: float = 60.0
    timeout_s: float = 30.0
    tick_s: float = 0.2
    feed_poll_s: float = 5.0
    own_process: bool = False


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of a stage as its owner has it: `state` is restoring, running, or stuck with a `problem`.

    Counts are since the worker had it; `keys` is how many its operators hold, `lag` how many records wait.
    """

    stage: str
    topic: str
    partition: int
    state: str
    problem: str = ""
    lag: int = 0
    rows: int = 0
    rows_per_s: float = 0.0
    late: int = 0
    dead: int = 0
    expired: int = 0
    """Records that retention let go of before they were read."""
    crashes: int = 0
    """Processes that ended in its functions, by hanging too, as far as what they ended of is done with."""
    suspects: str = ""
    """What it is careful with as such a process ended."""
    keys: int = 0
    watermark_ms: int | None = None

    @property
    def stuck(self) -> bool:
        return bool(self.problem)
