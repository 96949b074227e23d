"""Token buckets in a piece of memory of fixed size, which processes may share.

A bucket is one number, the moment at which it is full again; how many tokens it holds follows from the time
(the virtual scheduling form of the generic cell rate algorithm, ITU-T I.371, annex A). So a bucket that is full
carries no information: to forget it loses nothing. The table is set-associative, as a processor's cache is: a
key has `WAYS` places, and what gives way to a new one is the bucket there that is full for longest, or else
the next to be full, which loses least.
"""

import mmap

import msgspec

from penstock.serving.admission.rates.rule import RateLimit

__all__ = ["BUCKETS_BYTES", "BucketStatistics", "BucketTable"]

WAYS = 8
SETS = 8192
"""65,536 buckets: more than a client can keep from being full again without sending as many requests."""
BUCKETS_BYTES = SETS * WAYS * 16
TOLERANCE_S = 1e-6
"""By so much a token may come early: a clock that is read with rounding must not refuse who keeps to a rate."""


class BucketStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`capacity` is how many buckets there may be, `filling` how many are not full now; `lost` how many of
    those this process forgot.
    """

    capacity: int
    filling: int
    lost: int


class BucketTable:
    """Buckets in `memory`, zeroed when new, of which each set takes 128 bytes; their number is a power of two.

    Processes that share it take from the same buckets, without a lock: a number is read, and written again.
    Should two do so within the same microsecond, one of the two takes may be lost, which lets one more pass.
    """

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        view = memoryview(bytearray(BUCKETS_BYTES) if memory is None else memory).cast("B")
        slots = len(view) // 16
        sets = slots // WAYS
        assert sets.bit_count() == 1, "the number of sets is a power of two"
        assert len(view) == sets * WAYS * 16, "the memory is whole sets"
        self._keys = view[: slots * 8].cast("Q")
        self._full_s = view[slots * 8 :].cast("d")
        self._mask = sets - 1
        self._slots = slots
        self._lost = 0

    def take(self, key: int, cost: float, limit: RateLimit, now_s: float) -> float:
        """Takes `cost` tokens from the bucket of `key`, a hash from 1 to 2^64 - 1; 0.

        Where there are not as many, nothing is taken, and it is the seconds until there are; infinity where the
        bucket never holds as many. Over any t seconds, no more than burst + per_second * (t + 1 µs) are taken.
        Where the clock jumps, the bucket is never taken to hold less than nothing, nor more than its burst.
        """
        token_s = 1.0 / limit.per_second
        empty_s = now_s + limit.burst * token_s
        slot = self._find(key)
        full_s = self._full_s[slot] if slot >= 0 else now_s
        if full_s > empty_s:
            # The clock went back, or the limit became another.
            full_s = self._full_s[slot] = empty_s
        elif not full_s > now_s:
            full_s = now_s
        full_s += cost * token_s
        wait_s = full_s - empty_s
        if wait_s > TOLERANCE_S:
            return wait_s if cost <= limit.burst else float("inf")
        if slot < 0:
            slot = self._claim(key, now_s)
        self._full_s[slot] = full_s
        return 0.0

    def wait_s(self, key: int, cost: float, limit: RateLimit, now_s: float) -> float:
        """What `take` would say, with nothing taken."""
        slot = self._find(key)
        empty_s = now_s + limit.fill_s
        full_s = min(max(self._full_s[slot] if slot >= 0 else now_s, now_s), empty_s)
        wait_s = full_s + cost / limit.per_second - empty_s
        if wait_s <= TOLERANCE_S:
            return 0.0
        return wait_s if cost <= limit.burst else float("inf")

    def statistics(self, now_s: float) -> BucketStatistics:
        filling = sum(full_s > now_s for full_s in self._full_s.tolist())
        return BucketStatistics(capacity=self._slots, filling=filling, lost=self._lost)

    def _find(self, key: int) -> int:
        """Where the bucket of `key` is; -1: nowhere."""
        keys = self._keys
        start = (key & self._mask) * WAYS
        if keys[start] == key:
            return start
        for slot in range(start + 1, start + WAYS):
            found = keys[slot]
            if found == key:
                return slot
            if not found:
                break  # places are taken in order, and none is ever given back
        return -1

    def _claim(self, key: int, now_s: float) -> int:
        start = (key & self._mask) * WAYS
        slots = range(start, start + WAYS)
        slot = next((slot for slot in slots if not self._keys[slot]), -1)
        if slot < 0:
            slot = min(slots, key=self._full_s.__getitem__)
            if self._full_s[slot] > now_s:
                self._lost += 1
        self._keys[slot] = key
        return slot
