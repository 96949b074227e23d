"""Which partition a key belongs to: murmur2, as Kafka's default partitioner has it.

The same key goes to the same partition whichever client produced it, over Kafka too. All keys of a frame are
hashed at once, a word of all of them at a time. Source: Austin Appleby's MurmurHash2, and Kafka's
`Utils.murmur2` and `toPositive`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from penstock.log.records import Records

__all__ = ["partitions_of", "split_by_partition"]

Words = npt.NDArray[np.uint32]

SEED = 0x9747B28C
MULTIPLIER = np.uint32(0x5BD1E995)
SHIFT = np.uint32(24)
AT_ONCE_BYTES_MAX = 1024 * 1024
"""The matrix of keys is as wide as the longest: a few long ones are hashed by themselves."""


def partitions_of(keys: Sequence[bytes | None], count: int, *, first: int = 0) -> npt.NDArray[np.int32]:
    """For each key its partition, from 0 to before `count`.

    Records without a key take turns, beginning with partition `first`: whoever appends frame after frame
    passes on how many there were, so that small frames do not all begin at the same one.
    """
    assert count >= 1, "a topic has partitions"
    if count == 1 or not keys:
        return np.zeros(len(keys), dtype=np.int32)
    present = [key for key in keys if key is not None]
    hashes = _hashes(present)
    chosen = ((hashes & np.uint32(0x7FFF_FFFF)) % np.uint32(count)).astype(np.int32)
    if len(present) == len(keys):
        return chosen
    partitions = np.empty(len(keys), dtype=np.int32)
    missing = np.fromiter((key is None for key in keys), dtype=np.bool_, count=len(keys))
    partitions[~missing] = chosen
    partitions[missing] = (first + np.arange(int(missing.sum()))) % count
    return partitions


def split_by_partition(records: Records, count: int, *, first: int = 0) -> Iterator[tuple[int, Records]]:
    """The records of each partition that any belongs to, in their order; `first` as for `partitions_of`."""
    keys = records.keys if records.keys is not None else [None] * len(records)
    partitions = partitions_of(keys, count, first=first)
    for number in np.unique(partitions).tolist():
        rows = np.flatnonzero(partitions == number)
        if len(rows) == len(records):
            yield number, records
            continue
        chosen = rows.tolist()
        yield (
            number,
            Records(
                values=[records.values[row] for row in chosen],
                times_ms=records.times_ms[rows],
                keys=None if records.keys is None else [records.keys[row] for row in chosen],
                headers=None if records.headers is None else [records.headers[row] for row in chosen],
            ),
        )


def _hashes(keys: list[bytes]) -> Words:
    lengths = np.fromiter(map(len, keys), dtype=np.int64, count=len(keys))
    longest = int(lengths.max(initial=0))
    if len(keys) <= 1 or longest * len(keys) <= AT_ONCE_BYTES_MAX:
        return _murmur2(keys, lengths)
    hashes = np.empty(len(keys), dtype=np.uint32)
    order = np.argsort(lengths, kind="stable")
    for half in np.array_split(order, 2):
        hashes[half] = _hashes([keys[each] for each in half])
    return hashes


def _murmur2(keys: list[bytes], lengths: npt.NDArray[np.int64]) -> Words:
    width = -(-max(int(lengths.max(initial=0)), 1) // 4) * 4
    padded = np.array(keys, dtype=f"S{width}")
    words = padded.view("<u4").reshape(len(keys), width // 4).astype(np.uint32)
    whole, rest = lengths // 4, lengths % 4
    hashes = np.uint32(SEED) ^ lengths.astype(np.uint32)
    for position in range(int(whole.max(initial=0))):
        word = words[:, position] * MULTIPLIER
        word ^= word >> SHIFT
        word *= MULTIPLIER
        mixed = hashes * MULTIPLIER ^ word
        hashes = mixed if (whole > position).all() else np.where(whole > position, mixed, hashes)
    if rest.any():
        # What is left over is as it stands in the padded word; beyond it there are zeros.
        tails = words[np.arange(len(keys)), np.minimum(whole, words.shape[1] - 1)]
        hashes = np.where(rest > 0, (hashes ^ tails) * MULTIPLIER, hashes)
    hashes ^= hashes >> np.uint32(13)
    hashes *= MULTIPLIER
    hashes ^= hashes >> np.uint32(15)
    return hashes
