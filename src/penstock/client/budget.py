"""How much a client may add to what is asked of it: a token bucket that requests fill.

Source: "Finagle: RetryBudget" (Twitter), which has the share, the floor a second and the time that tokens are
kept; the share of 10 % from "Site Reliability Engineering" (Google, 2016), chapter 21.
"""

import math

import msgspec

from penstock.core.errors import InvalidInput

__all__ = ["BudgetStatistics", "RetryBudget"]


class BudgetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that are left, and how often one was given or denied."""

    tokens: float
    given: int
    denied: int


class RetryBudget:
    """A retry or hedge takes one token; each call puts `share` of one in, and each second `floor_per_s`.

    No more than `tokens_max` are kept, which are there at the start: a server that dies takes down what is in
    flight to it at once, and that has to be sent again. In any time the tokens given are therefore at most
    tokens_max + share · calls + floor_per_s · seconds. Not thread-safe; one event loop owns it.
    """

    def __init__(self, *, share: float = 0.1, floor_per_s: float = 1.0, tokens_max: float = 100.0) -> None:
        for name, value in (("share", share), ("floor_per_s", floor_per_s), ("tokens_max", tokens_max)):
            if not (value >= 0 and math.isfinite(value)):
                raise InvalidInput(f"a retry budget's {name} is {value!r}", where=name, hint="give 0 or more")
        self._share = share
        self._floor_per_s = floor_per_s
        self._tokens_max = tokens_max
        self._tokens = tokens_max
        self._filled_s: float | None = None
        self._given = 0
        self._denied = 0

    def call(self, now_s: float) -> None:
        """A call was begun, its first attempt. `now_s` in monotonic seconds."""
        self._fill(now_s)
        self._tokens = min(self._tokens_max, self._tokens + self._share)

    def take(self, now_s: float) -> bool:
        """Whether one more attempt may be made; it is counted if so."""
        self._fill(now_s)
        # A tenth has no exact float: ten of them are a token, though they add up to a little less.
        if self._tokens < 1.0 - 1e-9:
            self._denied += 1
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        self._given += 1
        return True

    def statistics(self) -> BudgetStatistics:
        return BudgetStatistics(tokens=self._tokens, given=self._given, denied=self._denied)

    def _fill(self, now_s: float) -> None:
        if self._filled_s is not None and now_s > self._filled_s:
            added = (now_s - self._filled_s) * self._floor_per_s
            self._tokens = min(self._tokens_max, self._tokens + added)
        self._filled_s = now_s if self._filled_s is None else max(now_s, self._filled_s)
