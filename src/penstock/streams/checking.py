"""What is held against a plan before anybody works by it: the state that is there, and the folders of sinks."""

import errno
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from penstock.core.errors import ConfigurationError, CorruptRecords, CorruptState
from penstock.log.port import Admin, TopicInfo
from penstock.log.records import TopicPartition
from penstock.streams.plan import StagePlan
from penstock.streams.stage_state import StageState, check_fingerprints, fingerprints_of, read_state

__all__ = ["check_folders", "check_state"]

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What passes: a worker waits for it."""


def check_state(admin: Admin, group: str, stages: Iterable[StagePlan]) -> None:
    """That the plans' operators are those which the state is of that the group goes on with. Raises
    `ConfigurationError`.

    Others may be at work meanwhile. A partition whose group was reset begins anew, whatever it was.
    """
    before = _committed(admin, group)
    topics = {info.spec.name: info for info in admin.topics()}
    found = [
        (plan, source, state)
        for plan in stages
        if plan.changes_topic in topics
        for source, state in _last_states(admin, plan, topics[plan.changes_topic])
    ]
    after = _committed(admin, group)
    for plan, source, state in found:
        reached, least, most = state.next_offset, before.get(source), after.get(source)
        if reached == most or (None not in (reached, least, most) and least <= reached <= most):  # type: ignore[operator]
            check_fingerprints(plan.name, fingerprints_of(plan), state)


def check_folders(folders: Iterable[Path]) -> None:
    """That files can be written there; makes those that are missing. Raises `ConfigurationError`."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK | os.X_OK)
        except OSError as error:
            if error.errno in _FULL:
                log.warning("%s: %s", folder, error.strerror)
                continue
            raise _unusable(folder, str(error.strerror)) from error
        if not writable:
            raise _unusable(folder, "this user may not write there")


def _unusable(folder: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"no rows can be written into {folder}: {reason}", hint="name a folder that can be made and written to"
    )


def _committed(admin: Admin, group: str) -> dict[TopicPartition, int | None]:
    return {each.source: each.committed for each in admin.lags(group)}


def _last_states(
    admin: Admin, plan: StagePlan, changes: TopicInfo
) -> Iterator[tuple[TopicPartition, StageState]]:
    """The last changes of each partition that has any. What is damaged is told of where it is brought back."""
    for partition, (begin, end) in enumerate(zip(changes.begins, changes.ends, strict=True)):
        if begin == end:
            continue
        source = TopicPartition(plan.source, partition)
        try:
            fetched = admin.read(TopicPartition(plan.changes_topic, partition), end - 1, records_max=1)
            if len(fetched.records):
                yield source, read_state(fetched.records.values[-1], source)
        except (CorruptRecords, CorruptState) as error:
            log.warning("%s", error)
