"""S3-FIFO, with entries weighed in bytes: a small queue that most leave unasked, a main one, and keys of old.

What is asked again while it waits in the small queue goes to the main one; the rest leaves early, so that what
is asked once does not push out what is asked often. A hit moves nothing, it only counts. Source: Yang, Zhang,
Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction" (SOSP 2023), algorithm 1. Two things
differ: an entry that is put anew keeps its place, as expired ones are; and a put gives a bounded number of
second chances, as it would go through the whole cache where all of it has been asked for.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

import msgspec

__all__ = ["Entry", "S3Fifo", "S3FifoStatistics"]

V = TypeVar("V")

SMALL_SHARE = 0.1
USES_MAX = 3
ENTRY_SHARE_MAX = 0.1
"""What weighs more than this share of the whole is not kept."""
CHANCES_MAX = 64
"""Of entries that were used and may stay, in one put. A put of the algorithm as published took 31 ms of the
event loop where 50,000 entries had been used, which whoever may ask can bring about."""
GHOST_BYTES = 160
"""What a key that is remembered without its value costs, measured; they count in what is held."""


class S3FifoStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`size_bytes` of `entries`, of remembered keys as well; `evicted` went before their time to make room."""

    entries: int
    size_bytes: int
    evicted: int


class Entry(Generic[V]):
    """A value, when it was stored and until when it is of use, in monotonic seconds."""

    __slots__ = ("kept_until_s", "size_bytes", "stored_s", "uses", "value")

    def __init__(self, value: V, size_bytes: int, stored_s: float, kept_until_s: float) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.stored_s = stored_s
        self.kept_until_s = kept_until_s
        self.uses = 0


class S3Fifo(Generic[V]):
    """Keeps values within `bytes_max`, as their owners weigh them. Times are monotonic seconds."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._small: OrderedDict[bytes, Entry[V]] = OrderedDict()
        self._main: OrderedDict[bytes, Entry[V]] = OrderedDict()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0
        self._evicted = 0

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    @property
    def size_bytes(self) -> int:
        return self._small_bytes + self._main_bytes + GHOST_BYTES * len(self._ghosts)

    def get(self, key: bytes) -> Entry[V] | None:
        """The entry, used once more; whether it is still of use is the caller's to see."""
        entry = self._main.get(key) or self._small.get(key)
        if entry is not None and entry.uses < USES_MAX:
            entry.uses += 1
        return entry

    def put(self, key: bytes, entry: Entry[V], now_s: float) -> bool:
        """Keeps the entry, in place of another of its key; False where it is too large to be kept."""
        proven = key in self._main or key in self._ghosts
        before = self._take(key)
        if entry.size_bytes > ENTRY_SHARE_MAX * self._bytes_max:
            return False
        self._ghosts.pop(key, None)
        if before is not None:
            entry.uses = before.uses
        self._sweep(now_s)
        self._make_room(entry.size_bytes, now_s)
        if proven:
            self._main[key] = entry
            self._main_bytes += entry.size_bytes
        else:
            self._small[key] = entry
            self._small_bytes += entry.size_bytes
        return True

    def discard(self, key: bytes) -> None:
        """Drops the entry, if there is one."""
        self._take(key)

    def statistics(self) -> S3FifoStatistics:
        return S3FifoStatistics(entries=len(self), size_bytes=self.size_bytes, evicted=self._evicted)

    def _sweep(self, now_s: float) -> None:
        """Drops what is of no use any more at the queues' ends: two at most for each one put, so that they do
        not grow with what is over.
        """
        for queue in (self._small, self._main):
            if queue:
                key, entry = next(iter(queue.items()))
                if entry.kept_until_s <= now_s:
                    self.discard(key)

    def _make_room(self, size_bytes: int, now_s: float) -> None:
        """Each step takes an entry or a remembered key away, or one of the chances."""
        chances = CHANCES_MAX
        while self.size_bytes + size_bytes > self._bytes_max:
            if self._small and (self._small_bytes >= SMALL_SHARE * self._bytes_max or not self._main):
                chances -= self._evict_small(now_s, chances)
            elif self._main:
                chances -= self._evict_main(now_s, chances)
            else:
                self._ghosts.popitem(last=False)

    def _evict_small(self, now_s: float, chances: int) -> bool:
        """Whether the oldest got a chance, and stays."""
        key, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size_bytes
        if entry.kept_until_s <= now_s:
            return False
        if entry.uses > 1 and chances:
            self._main[key] = entry
            self._main_bytes += entry.size_bytes
            entry.uses = 0
            return True
        self._evicted += 1
        self._ghosts[key] = None
        # As many as there are entries to be compared with, and within a tenth of the bytes whatever they weigh.
        ghosts_max = min(len(self._main) + len(self._small), SMALL_SHARE * self._bytes_max / GHOST_BYTES)
        while len(self._ghosts) > ghosts_max:
            self._ghosts.popitem(last=False)
        return False

    def _evict_main(self, now_s: float, chances: int) -> bool:
        """Likewise."""
        key, entry = self._main.popitem(last=False)
        if entry.uses and entry.kept_until_s > now_s and chances:
            entry.uses -= 1
            self._main[key] = entry
            return True
        self._main_bytes -= entry.size_bytes
        if entry.kept_until_s > now_s:
            self._evicted += 1
        return False

    def _take(self, key: bytes) -> Entry[V] | None:
        if (entry := self._small.pop(key, None)) is not None:
            self._small_bytes -= entry.size_bytes
        elif (entry := self._main.pop(key, None)) is not None:
            self._main_bytes -= entry.size_bytes
        return entry
