"""Appends on their way: small ones that wait together become one frame."""

from dataclasses import dataclass, field

from penstock.core.errors import TooLarge
from penstock.log.embedded.codec import EncodedFrame, encode_records
from penstock.log.embedded.limits import LogLimits
from penstock.log.embedded.turns import TurnFuture
from penstock.log.records import Records, TopicPartition, concatenated, cut

__all__ = ["Append", "PartitionRun", "checked_size", "frames_of"]

RAW_ROWS_MAX = 64
"""An append of more is encoded by the thread that appends, one of fewer by the writer, with its neighbours."""
RAW_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class Append:
    """One append in the queue: either `records` as they are, or the `frames` of them."""

    source: TopicPartition
    rows: int
    size_bytes: int
    future: TurnFuture[int]
    records: Records | None
    frames: list[EncodedFrame]

    @classmethod
    def of(cls, source: TopicPartition, records: Records, limits: LogLimits) -> "Append":
        """Raises `TooLarge`."""
        rows = len(records)
        size_bytes = checked_size(records, limits)
        raw = rows <= RAW_ROWS_MAX and size_bytes <= RAW_BYTES_MAX and records.headers is None
        if raw:
            b"".join(records.values)  # what is no bytes is refused here, and not among its neighbours
        frames = [] if raw else frames_of(records, size_bytes, limits)
        return cls(source, rows, size_bytes, TurnFuture(), records if raw else None, frames)


@dataclass(slots=True)
class PartitionRun:
    """What goes to one partition, in order. `shares` are whose records begin how far from the first."""

    frames: list[EncodedFrame] = field(default_factory=list)
    shares: list[tuple[TurnFuture[int], int]] = field(default_factory=list)
    _raw: list[Records] = field(default_factory=list)
    _rows: int = 0

    def add(self, append: Append) -> None:
        self.shares.append((append.future, self._rows))
        self._rows += append.rows
        if append.records is None:
            self.close()
            self.frames += append.frames
        elif append.rows:
            self._raw.append(append.records)

    def close(self, rows_max: int = RAW_ROWS_MAX * 16) -> None:
        """Makes frames of what was small; nothing is added to those any more."""
        while self._raw:
            rows = taken = 0
            for records in self._raw:
                if taken and rows + len(records) > rows_max:
                    break
                rows += len(records)
                taken += 1
            self.frames.append(encode_records(concatenated(self._raw[:taken])))
            del self._raw[:taken]


def checked_size(records: Records, limits: LogLimits) -> int:
    """The bytes of all of them. Raises `TooLarge` for one record, or all of them, beyond the limits."""
    size_bytes = records.size_bytes
    if records.headers is not None:
        size_bytes += sum(
            len(name) + len(value) for headers in records.headers if headers for name, value in headers.items()
        )
    if size_bytes > limits.append_bytes_max:
        raise TooLarge(
            f"{len(records)} records of {size_bytes} bytes are more than the log takes at once",
            hint=f"append fewer: {limits.append_bytes_max} bytes at most",
        )
    if size_bytes > limits.record_bytes_max:
        largest = max(map(len, records.values))
        if largest > limits.record_bytes_max or len(records) == 1:
            raise TooLarge(
                f"a record of {size_bytes if len(records) == 1 else largest} bytes is too large for the log",
                hint=f"send {limits.record_bytes_max} bytes at most: keep the rest elsewhere and send its name",
            )
    return size_bytes


def frames_of(records: Records, size_bytes: int, limits: LogLimits) -> list[EncodedFrame]:
    """Them in frames of at most as many rows and about as many bytes as the limits say."""
    rows = len(records)
    if rows == 0:
        return []
    count = max(-(-rows // limits.frame_rows_max), min(rows, -(-size_bytes // limits.frame_bytes_max)))
    if count == 1:
        return [encode_records(records)]
    step = -(-rows // count)
    return [encode_records(cut(records, start, start + step)) for start in range(0, rows, step)]
