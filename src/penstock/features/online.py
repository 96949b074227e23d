"""What is known of each key now: the port between who learns it, in the stream, and who reads it, in a request.

A record is what stands under a key: where its last update is in the log, when that was appended, and the key's
timeline. Of each partition of the view's topic it is kept how far the stream's time has come and when something
was last heard, so that a reader knows as of when it reads, and whether somebody still sees to it.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from penstock.core.errors import CorruptRecords
from penstock.features.view import FeatureView

__all__ = [
    "BACKFILLED",
    "CHECK_BYTES",
    "NO_PLACE",
    "NO_POSITION",
    "NO_TIME_MS",
    "OFFSET_BITS",
    "RECORD_HEAD_BYTES",
    "Answer",
    "OnlineReader",
    "OnlineStore",
    "OnlineWriter",
    "Progress",
    "Record",
    "Seen",
    "Update",
    "check_record",
    "fingerprint_of",
    "pack_record",
    "read_record",
]

OFFSET_BITS: Final = 48
"""Below the partition, in a position."""
NO_TIME_MS: Final = -(2**62)
"""How far a partition has come in which no event has been."""
BACKFILLED: Final = -1
"""The partition of what was computed from history."""
NO_PLACE: Final = -1
"""The offset of what was computed from history and stands in none."""
NO_POSITION: Final = -1
"""Of a key of which nothing is known, or nothing that came by the log."""
CHECK_BYTES: Final = 8
"""A packed record begins with a checksum of the rest."""
_HEAD = struct.Struct("<Qqq")
RECORD_HEAD_BYTES: Final = _HEAD.size
"""Of a packed record, before its timeline: the checksum, the position, and when it was available."""


class Update(NamedTuple):
    """What a partition of the view's topic says of a key, at `offset`. `available_ms` is the record's time in
    the log.
    """

    key: bytes
    offset: int
    available_ms: int
    timeline: bytes


class Progress(NamedTuple):
    """How far a partition has come: the stream's time (`NO_TIME_MS` before its first event), the offset that
    comes next, and the time of day when it was last heard of.
    """

    partition: int
    as_of_ms: int
    next_offset: int
    heard_ms: int


class Record(NamedTuple):
    """What stands under a key. `position` is the partition, then `OFFSET_BITS` of offset."""

    position: int
    available_ms: int
    timeline: bytes


class Seen(NamedTuple):
    """A state of a view: where it is the same, all records are. Only the store itself knows more of it."""

    source: int
    view: int
    change: int


class Answer(NamedTuple):
    """The records of some keys as they stand, one after the other, the size of each, None where there is none,
    and how far their view was by then. `changed` are the keys whose records are others than they were, or there
    no more, since the view was seen before; None where any may be.
    """

    joined: bytes
    sizes: Sequence[int | None]
    progress: tuple[Progress, ...]
    seen: Seen
    changed: Sequence[bytes] | None

    @property
    def records(self) -> list[bytes | None]:
        """Each by itself."""
        found: list[bytes | None] = []
        start = 0
        for size in self.sizes:
            found.append(None if size is None else self.joined[start : start + size])
            start += size or 0
        return found


class OnlineWriter(Protocol):
    """What is known of one view's keys, to be written. For one thread at a time; of several processes each has
    its own partitions.
    """

    def put(self, partition: int, updates: Sequence[Update], progress: Progress) -> None:
        """Durable once it returns, in whole. Updates ascend in their offsets; the same ones again change
        nothing.

        Raises `Fenced` where the view was defined anew since, `StorageFailed` where nothing was written.
        """
        ...

    def fill(self, updates: Sequence[Update]) -> int:
        """Likewise for keys of which nothing is known from the log, and nothing that was available later: how
        many that were. Their offsets are places in a history, or -1; any update of the log replaces them.
        """
        ...

    def close(self) -> None: ...


class OnlineReader(Protocol):
    """What is known of the keys of any views, to be read. For one thread at a time."""

    def read(self, view: FeatureView, keys: Sequence[bytes], since: Seen | None = None) -> Answer:
        """All as it is at one moment, and what has changed `since`. Nothing at all is known of a view that
        nobody has written to as it is defined now.

        Raises `StorageFailed`.
        """
        ...

    def look(self) -> None:
        """Looks whether anything was written. Raises `StorageFailed`."""
        ...

    def is_current(self, view: FeatureView, seen: Seen) -> bool:
        """Whether nothing had been written since the view was seen so, its progress included, when it was
        looked last; False also where that is not known.
        """
        ...

    def close(self) -> None: ...


class OnlineStore(Protocol):
    """The store as a whole."""

    def writer(self, view: FeatureView) -> OnlineWriter:
        """What was known of a view that was defined otherwise is dropped. Raises `StorageFailed`, and
        `ConfigurationError` where another app's view, or another of this app's, has the same topic.
        """
        ...

    def reader(self) -> OnlineReader: ...

    def views(self) -> list[FeatureView]:
        """All that was written to, as they were defined last, by name. Raises `StorageFailed`."""
        ...

    def size(self, view: FeatureView) -> int:
        """The keys of which something is known. Raises `StorageFailed`."""
        ...


def fingerprint_of(view: FeatureView) -> bytes:
    """Of what its records mean: defaults, and when a view is stale, are the reader's."""
    meaning = (
        view.topic,
        view.definition,
        [(key.name, key.datatype.value) for key in view.keys],
        [(feature.name, feature.datatype.value) for feature in view.features],
    )
    return hashlib.blake2b(msgspec.msgpack.encode(meaning), digest_size=16).digest()


def pack_record(record: Record) -> bytes:
    """As a store keeps it, with a checksum before it."""
    head = _HEAD.pack(0, record.position, record.available_ms)[CHECK_BYTES:]
    body = head + record.timeline
    return zlib.crc32(body).to_bytes(CHECK_BYTES, "little") + body


def check_record(packed: bytes) -> None:
    """Raises `CorruptRecords` for anything that `pack_record` did not make."""
    if len(packed) < RECORD_HEAD_BYTES or int.from_bytes(packed[:CHECK_BYTES], "little") != zlib.crc32(
        packed[CHECK_BYTES:]
    ):
        raise CorruptRecords(
            "what is kept of a key does not have the checksum that it was kept with",
            hint="its next update mends it; look at the disk",
        )


def read_record(packed: bytes) -> tuple[int, int, bytes]:
    """What `pack_record` made: a `Record`, but for its name. Raises as `check_record` does."""
    check_record(packed)
    _, position, available_ms = _HEAD.unpack_from(packed)
    return position, available_ms, packed[RECORD_HEAD_BYTES:]
