"""Keys go where Kafka's clients put them."""

import numpy as np
import pytest

from penstock.log.partitioning import partitions_of, split_by_partition
from penstock.log.records import Records


def murmur2(key: bytes) -> int:
    """By the letter of the published algorithm, a byte at a time."""
    mask = 0xFFFFFFFF
    value = 0x9747B28C ^ len(key)
    for start in range(0, len(key) - len(key) % 4, 4):
        word = int.from_bytes(key[start : start + 4], "little") * 0x5BD1E995 & mask
        word = (word ^ word >> 24) * 0x5BD1E995 & mask
        value = (value * 0x5BD1E995 & mask) ^ word
    tail = key[len(key) - len(key) % 4 :]
    if tail:
        value = (value ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & mask
    value = (value ^ value >> 13) * 0x5BD1E995 & mask
    return value ^ value >> 15


KEYS = [bytes(range(start, start + length)) for length in range(40) for start in (0, 7, 200)]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 1000])
def test_all_lengths(count: int) -> None:
    expected = [(murmur2(key) & 0x7FFFFFFF) % count for key in KEYS]
    assert partitions_of(KEYS, count).tolist() == expected
    assert [partitions_of([key], count)[0] for key in KEYS] == expected


def test_what_kafka_computes() -> None:
    """The values that stand in Kafka's own tests of `Utils.murmur2`."""
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    count = 2**31 - 1
    for key, value in known.items():
        assert partitions_of([key], count).tolist() == [(value & 0x7FFFFFFF) % count]


def test_a_few_long_keys_among_short_ones() -> None:
    keys = [b"x" * 40_000, *KEYS, b"y" * 20_001]
    short = [(murmur2(key) & 0x7FFFFFFF) % 7 for key in KEYS]
    assert partitions_of(keys, 7).tolist()[1:-1] == short


def test_zero_bytes_at_the_end_count() -> None:
    assert len(set(partitions_of([b"a", b"a\0", b"a\0\0", b"a\0\0\0"], 2**31 - 1).tolist())) == 4


def test_records_without_a_key_take_turns() -> None:
    assert partitions_of([None, None, b"21", None], 2, first=1).tolist()[:2] == [1, 0]
    assert partitions_of([None] * 5, 3).tolist() == [0, 1, 2, 0, 1]


def test_splitting() -> None:
    keys = [None, *KEYS]
    records = Records(
        values=[f"{number}".encode() for number in range(len(keys))], times_ms=np.arange(len(keys)), keys=keys
    )
    parts = dict(split_by_partition(records, 4))
    partitions = partitions_of(keys, 4).tolist()
    for number in range(4):
        expected = [row for row, partition in enumerate(partitions) if partition == number]
        assert parts[number].times_ms.tolist() == expected
        assert list(parts[number].values) == [records.values[row] for row in expected]
        assert list(parts[number].keys or ()) == [keys[row] for row in expected]
    ((number, whole),) = split_by_partition(records, 1)
    assert (number, whole) == (0, records)
