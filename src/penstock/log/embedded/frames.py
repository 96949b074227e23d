"""Frames in their table: written one after the other, read back only if their checksum holds."""

import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.core.errors import CorruptRecords
from penstock.log.embedded.codec import EncodedFrame, decode_records
from penstock.log.embedded.schema import BASE_BITS
from penstock.log.records import Records, TopicPartition

__all__ = ["Extent", "extent_of", "frame_at_time", "frame_row", "frames_from", "insert_frames"]

BASES_MAX = 1 << BASE_BITS
_IDENTITY = struct.Struct("<qqI")
_HINT = (
    "restore the log from a backup, or let groups go on behind the damage:"
    " `penstock log replay TOPIC --group GROUP --from OFFSET`"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """The offsets that a partition keeps, from `begins` to before `ends`."""

    begins: int
    ends: int


def extent_of(connection: sqlite3.Connection, partition: int) -> Extent:
    row = connection.execute("SELECT begins, ends FROM partitions WHERE id = ?", (partition,)).fetchone()
    return Extent(*row)


def frame_row(partition: int, base: int) -> int:
    """Where the frame that begins at that offset is in the table."""
    return partition << BASE_BITS | base


def insert_frames(
    connection: sqlite3.Connection,
    partition: int,
    source: TopicPartition,
    frames: Iterable[EncodedFrame],
    now_ms: int,
) -> list[int]:
    """Appends them within the transaction that stands. The first offset of each, then that after the last."""
    base, high_ms, appended_ms = connection.execute(
        "SELECT ends, time_high_ms, appended_ms FROM partitions WHERE id = ?", (partition,)
    ).fetchone()
    now_ms = max(now_ms, appended_ms)
    bases, rows, size_bytes = [base], [], 0
    for frame in frames:
        high_ms = max(high_ms, frame.time_max_ms)
        rows.append(
            (
                *(
                    frame_row(partition, base),
                    frame.count,
                    frame.time_min_ms,
                    frame.time_max_ms,
                    high_ms,
                    now_ms,
                ),
                *(_checksum(source, base, frame.count, frame.body), frame.body),
            )
        )
        size_bytes += len(frame.body)
        base += frame.count
        bases.append(base)
    assert base < BASES_MAX, "offsets of a partition are used up"
    connection.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute(
        "UPDATE partitions SET ends = ?, size_bytes = size_bytes + ?, time_high_ms = ?, appended_ms = ?"
        " WHERE id = ?",
        (base, size_bytes, high_ms, now_ms, partition),
    )
    return bases


def frames_from(
    connection: sqlite3.Connection, partition: int, source: TopicPartition, offset: int
) -> Iterator[tuple[int, Records]]:
    """The frames from the one with `offset` in it on, which is kept, each with its first offset.

    Raises `CorruptRecords` at one that is damaged or missing.
    """
    begin = frame_row(partition, 0)
    (first,) = connection.execute(
        "SELECT max(id) FROM frames WHERE id BETWEEN ? AND ?", (begin, begin | offset)
    ).fetchone()
    rows = connection.execute(
        "SELECT id, count, checksum, body FROM frames WHERE id BETWEEN ? AND ? ORDER BY id",
        (begin | offset if first is None else first, begin | BASES_MAX - 1),
    )
    expected = offset
    try:
        for row, count, checksum, body in rows:
            base = row - begin
            if not (base == expected or base < offset == expected < base + count):
                raise _corrupt(source, expected, "records are missing there")
            if _checksum(source, base, count, body) != checksum:
                raise _corrupt(source, base, "its checksum is not that of what was appended")
            yield base, _decoded(source, base, body)
            expected = base + count
    finally:
        rows.close()


def _decoded(source: TopicPartition, base: int, body: bytes) -> Records:
    try:
        return decode_records(body)
    except ValueError as error:
        raise _corrupt(source, base, str(error)) from error


def frame_at_time(connection: sqlite3.Connection, partition: int, time_ms: int) -> int | None:
    """The first offset of the first frame that has a record of that time or a later one."""
    extent = extent_of(connection, partition)
    begin = frame_row(partition, 0)
    low, high, found = extent.begins, extent.ends, None
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT id, count, time_high_ms FROM frames WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            (begin | extent.begins, begin | middle),
        ).fetchone()
        if row is None:
            low = middle + 1
            continue
        base = row[0] - begin
        if row[2] >= time_ms:
            found, high = base, base
        else:
            low = base + row[1]
    return found


def _checksum(source: TopicPartition, base: int, count: int, body: bytes) -> int:
    identity = _IDENTITY.pack(source.partition, base, count) + source.topic.encode()
    return zlib.crc32(body, zlib.crc32(identity))


def _corrupt(source: TopicPartition, offset: int, why: str) -> CorruptRecords:
    return CorruptRecords(
        f"{source} is damaged at offset {offset}: {why}", where=str(source), offset=offset, hint=_HINT
    )
