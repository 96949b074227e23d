"""What a log lets go of: whole frames, the oldest first."""

import sqlite3
from collections.abc import Callable

from penstock.log.embedded.frames import frame_row

__all__ = ["drop_frames_while", "retain"]

FRAMES_MAX = 256
"""In one transaction, of each partition: others wait for it."""


def retain(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Drops what topics need not keep, by when it was appended and by its size. Whether there is more.

    By size, the last frame stays; by time, none has to. Event times say nothing of how long something has been
    here, so that a replay of years ago is kept as long as anything else.
    """
    partitions = connection.execute(
        "SELECT partitions.id, size_bytes, retention_s, retention_bytes FROM partitions"
        " JOIN topics ON topics.id = topic"
        " WHERE ends > begins AND (retention_s IS NOT NULL OR retention_bytes IS NOT NULL)"
    ).fetchall()
    more = False
    for partition, size_bytes, retention_s, retention_bytes in partitions:
        before_ms = None if retention_s is None else now_ms - int(retention_s * 1000)
        left_bytes = size_bytes

        def old(end: int, ends: int, frame_bytes: int, appended_ms: int) -> bool:
            nonlocal left_bytes
            aged = before_ms is not None and appended_ms < before_ms  # noqa: B023 - called within this turn
            large = retention_bytes is not None and left_bytes > retention_bytes and end < ends  # noqa: B023
            left_bytes -= frame_bytes
            return aged or large

        more |= drop_frames_while(connection, partition, old) == FRAMES_MAX
    return more


def drop_frames_while(
    connection: sqlite3.Connection, partition: int, droppable: Callable[[int, int, int, int], bool]
) -> int:
    """Drops a partition's oldest frames as long as `droppable` says so of each, 256 at most. How many.

    It is asked with the offset after the frame, that after the partition's last, the frame's bytes and when it
    was appended.
    """
    begins, ends = connection.execute(
        "SELECT begins, ends FROM partitions WHERE id = ?", (partition,)
    ).fetchone()
    first = frame_row(partition, 0)
    rows = connection.execute(
        "SELECT id, count, length(body), appended_ms FROM frames WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (first, first | ends, FRAMES_MAX),
    ).fetchall()
    dropped = dropped_bytes = 0
    for row, count, frame_bytes, appended_ms in rows:
        if not droppable(row - first + count, ends, frame_bytes, appended_ms):
            break
        begins = row - first + count
        dropped_bytes += frame_bytes
        dropped += 1
    if dropped:
        connection.execute("DELETE FROM frames WHERE id BETWEEN ? AND ?", (first, first | begins - 1))
        connection.execute(
            "UPDATE partitions SET begins = ?, size_bytes = size_bytes - ? WHERE id = ?",
            (begins, dropped_bytes, partition),
        )
    return dropped
