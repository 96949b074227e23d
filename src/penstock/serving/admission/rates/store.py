"""Where token buckets are kept, as those see it who may wait for an answer from another machine."""

from typing import NamedTuple, Protocol

from penstock.core.clock import Clock
from penstock.serving.admission.rates.buckets import BucketTable
from penstock.serving.admission.rates.rule import RateLimit

__all__ = ["LocalRateLimitStore", "RateLimitStore", "Take"]


class Take(NamedTuple):
    """Whether it may pass, and (where not) after how many seconds it could; infinity for never."""

    allowed: bool
    wait_s: float


class RateLimitStore(Protocol):
    """Token buckets by key, each made full when it is first asked for."""

    async def take(self, key: int, cost: float, limit: RateLimit) -> Take:
        """Takes `cost` tokens, all or none, in one atomic step; the store's clock tells the time.

        `key` is a hash from 1 to 2^64 - 1. A bucket may be forgotten once it is full, `limit.fill_s` after the
        last take at the latest.
        """
        ...


class LocalRateLimitStore:
    """The store of one machine's processes. It never waits."""

    def __init__(self, table: BucketTable, clock: Clock) -> None:
        self._table = table
        self._monotonic = clock.monotonic

    async def take(self, key: int, cost: float, limit: RateLimit) -> Take:
        wait_s = self._table.take(key, cost, limit, self._monotonic())
        return Take(wait_s == 0.0, wait_s)
