"""A bulkhead: at most so many at a time, so that what is slow or stuck cannot take up everything.

The pattern is Michael Nygard's ("Release It!", 2007, chapter 5).
"""

from collections.abc import Callable

import msgspec

from penstock.core.errors import ConfigurationError

__all__ = ["Bulkhead", "BulkheadPermit", "BulkheadStatistics"]


class BulkheadStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How many are inside, may be, were at most, and how many found it full."""

    inside: int
    limit: int
    most: int
    refused: int


class BulkheadPermit:
    """A place inside. It is left once; leaving it again changes nothing."""

    __slots__ = ("_leave",)

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Bulkhead:
    """Holds at most `limit` at a time; used in one thread. Raises `ConfigurationError` for less than 1."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ConfigurationError(f"a bulkhead of {limit} lets nobody in", hint="give it 1 or more")
        self._limit = limit
        self._inside = 0
        self._most = 0
        self._refused = 0

    def enter(self) -> BulkheadPermit | None:
        """A place; None where there is none left."""
        if self._inside >= self._limit:
            self._refused += 1
            return None
        self._inside += 1
        self._most = max(self._most, self._inside)
        return BulkheadPermit(self._left)

    def _left(self) -> None:
        self._inside -= 1

    def statistics(self) -> BulkheadStatistics:
        return BulkheadStatistics(
            inside=self._inside, limit=self._limit, most=self._most, refused=self._refused
        )
