"""Records as the log keeps them: payloads that it does not look into, in columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from penstock.log.packed_values import PackedValues

__all__ = ["Fetched", "Records", "TopicPartition", "concatenated", "cut"]

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Some records in their order, none of them empty of meaning: a value each.

    `times_ms` are milliseconds since 1970, of the event or of when it was produced. `keys` and `headers` are
    None where no record has any.
    """

    values: Sequence[bytes]
    times_ms: Times
    keys: Sequence[bytes | None] | None = None
    headers: Sequence[Mapping[str, bytes] | None] | None = None

    def __post_init__(self) -> None:
        count = len(self.values)
        assert len(self.times_ms) == count, "a time for each value"
        assert self.keys is None or len(self.keys) == count, "a key for each value"
        assert self.headers is None or len(self.headers) == count, "headers for each value"

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def size_bytes(self) -> int:
        """Of the values and keys."""
        keys = sum(map(len, filter(None, self.keys))) if self.keys is not None else 0
        values = self.values
        return keys + (values.size_bytes if isinstance(values, PackedValues) else sum(map(len, values)))


@dataclass(frozen=True, order=True)
class TopicPartition:
    """One shard of a topic: the unit of order, state and recovery."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Consecutive records of one partition. Offsets may have gaps, but only grow.

    `next_offset` is where to go on, which is what is committed once these are done.
    """

    source: TopicPartition
    offsets: Times
    records: Records
    next_offset: int


def cut(records: Records, start: int, stop: int) -> Records:
    """Those from `start` to before `stop`."""
    if start <= 0 and stop >= len(records):
        return records
    return Records(
        values=records.values[start:stop],
        times_ms=records.times_ms[start:stop],
        keys=None if records.keys is None else records.keys[start:stop],
        headers=None if records.headers is None else records.headers[start:stop],
    )


def concatenated(parts: Sequence[Records]) -> Records:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    packed = [part.values for part in parts if isinstance(part.values, PackedValues)]
    values: Sequence[bytes]
    if len(packed) == len(parts):
        values = PackedValues.joined(packed)
    else:
        values = [value for part in parts for value in part.values]
    keys = headers = None
    if any(part.keys is not None for part in parts):
        keys = [key for part in parts for key in (part.keys or [None] * len(part))]
    if any(part.headers is not None for part in parts):
        headers = [each for part in parts for each in (part.headers or [None] * len(part))]
    return Records(
        values=values, times_ms=np.concatenate([part.times_ms for part in parts]), keys=keys, headers=headers
    )
