"""Looking at an embedded log, and mending it."""

import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np

from penstock.log.embedded.consumer import LogParts
from penstock.log.embedded.frames import extent_of, frame_at_time, frames_from
from penstock.log.embedded.reader import Budget, Cursor, Reader
from penstock.log.embedded.retention import FRAMES_MAX, drop_frames_while, retain
from penstock.log.embedded.topics import ensure_topics, topic_infos
from penstock.log.embedded.writer import Session
from penstock.log.port import GroupLag, GroupMember, TopicInfo, TopicSpec
from penstock.log.records import Fetched, Records, TopicPartition

__all__ = ["EmbeddedAdmin"]

READ_BYTES_MAX = 64 * 1024 * 1024
_LAGS = """
SELECT groups.name, topics.name, number, next, ends, token
FROM groups
JOIN (SELECT group_id, partition FROM offsets UNION SELECT group_id, partition FROM owners) AS seen
    ON seen.group_id = groups.id
JOIN partitions ON partitions.id = seen.partition
JOIN topics ON topics.id = partitions.topic
LEFT JOIN offsets ON offsets.group_id = groups.id AND offsets.partition = partitions.id
LEFT JOIN owners ON owners.group_id = groups.id AND owners.partition = partitions.id
LEFT JOIN members ON members.id = owners.owner
WHERE ? IS NULL OR groups.name = ?
ORDER BY 1, 2, 3
"""
_MEMBERS = """
SELECT members.id, token, topics.name, number
FROM members
JOIN groups ON groups.id = members.group_id
LEFT JOIN owners ON owners.group_id = groups.id AND owners.owner = members.id
LEFT JOIN partitions ON partitions.id = owners.partition
LEFT JOIN topics ON topics.id = partitions.topic
WHERE groups.name = ?
ORDER BY members.id, topics.name, number
"""


class EmbeddedAdmin:
    """Thread-safe."""

    def __init__(self, parts: LogParts) -> None:
        self._parts = parts
        self._reader = Reader(parts.database)

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> None:
        with self._reader.view() as connection:
            known = {info.spec.name: info.spec for info in topic_infos(connection)}
        if any(known.get(spec.name) != spec for spec in specs):
            self._parts.writer.call(lambda session: ensure_topics(session.connection, specs))

    def topics(self) -> tuple[TopicInfo, ...]:
        with self._reader.view() as connection:
            return topic_infos(connection)

    def read(self, source: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        with self._reader.view() as connection:
            partition = self._parts.catalog.id_of(connection, source)
            extent = extent_of(connection, partition)
            start = max(offset, extent.begins)
            if start < extent.ends:
                cursor = Cursor(source, partition, start)
                found = cursor.fetch(connection, Budget(records_max, READ_BYTES_MAX))
                assert found is not None, "what is kept can be read"
                return found
        nothing = Records(values=[], times_ms=np.empty(0, dtype=np.int64))
        return Fetched(source=source, offsets=np.empty(0, dtype=np.int64), records=nothing, next_offset=start)

    def offset_at(self, source: TopicPartition, time_ms: int) -> int:
        with self._reader.view() as connection:
            partition = self._parts.catalog.id_of(connection, source)
            base = frame_at_time(connection, partition, time_ms)
            if base is None:
                return extent_of(connection, partition).ends
            return _first_at(connection, partition, source, base, time_ms)

    def truncate(self, source: TopicPartition, before: int) -> None:
        def drop(session: Session) -> int:
            partition = session.catalog.id_of(session.connection, source)
            return drop_frames_while(
                session.connection, partition, lambda end, _ends, _bytes, _appended_ms: end <= before
            )

        while self._parts.writer.call(drop) == FRAMES_MAX:
            pass

    def retain(self) -> None:
        """Lets go of what topics need not keep, now."""
        while self._parts.writer.call(lambda session: retain(session.connection, session.now_ms)):
            pass

    def lags(self, group: str | None = None) -> tuple[GroupLag, ...]:
        with self._reader.view() as connection:
            rows = connection.execute(_LAGS, (group, group)).fetchall()
        return tuple(
            GroupLag(
                group=name, source=TopicPartition(topic, number), committed=committed, end=end, member=member
            )
            for name, topic, number, committed, end, member in rows
        )

    def members(self, group: str) -> tuple[GroupMember, ...]:
        with self._reader.view() as connection:
            rows = connection.execute(_MEMBERS, (group,)).fetchall()
        found: dict[str, list[TopicPartition]] = {}
        for _, token, topic, number in rows:
            partitions = found.setdefault(token, [])
            if topic is not None:
                partitions.append(TopicPartition(topic, number))
        return tuple(GroupMember(member=token, partitions=tuple(each)) for token, each in found.items())

    def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._parts.writer.call(lambda session: self._parts.groups.reset(session, group, offsets))

    def close(self) -> None:
        self._reader.close()


def _first_at(
    connection: sqlite3.Connection, partition: int, source: TopicPartition, base: int, time_ms: int
) -> int:
    _, records = next(frames_from(connection, partition, source, base))
    return base + int(np.argmax(records.times_ms >= time_ms))
