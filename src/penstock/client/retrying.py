"""When to send a call again, and what a server says about that.

Source of the back-off: M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter.
`Retry-After`: RFC 9110, section 10.2.3.
"""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from penstock.core.errors import InvalidInput

__all__ = ["RetryPolicy", "parse_retry_after_s"]

DOUBLINGS_MAX = 32


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when a call is sent again; the budget's numbers are those of `RetryBudget`.

    `attempts_max` counts the first one, so that 1 never retries. The pause before retry n is drawn evenly from
    0 to the least of `longest_s` and first_s · 2^(n-1).
    """

    attempts_max: int = 4
    first_s: float = 0.05
    longest_s: float = 2.0
    budget_share: float = 0.1
    budget_floor_per_s: float = 1.0
    budget_tokens_max: float = 100.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise InvalidInput(
                f"attempts_max is {self.attempts_max}", where="attempts_max", hint="1 is a call without retries"
            )
        if not 0 <= self.first_s <= self.longest_s < math.inf:
            raise InvalidInput(
                f"back-off from {self.first_s} to {self.longest_s} seconds",
                where="first_s",
                hint="0 ≤ first_s ≤ longest_s",
            )

    def pause_s(self, retry: int, drawn: float, retry_after_s: float | None = None) -> float:
        """The pause, in seconds, before retry number `retry` (1, 2, …).

        `drawn` is drawn evenly from 0 to 1. What the server asked for is waited in full, and the jitter comes
        on top: clients that were refused together do not come back together.
        """
        assert retry >= 1, "the first attempt is no retry"
        bound_s = min(self.longest_s, self.first_s * 2.0 ** min(retry - 1, DOUBLINGS_MAX))
        return (retry_after_s or 0.0) + drawn * bound_s


def parse_retry_after_s(text: str | None, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` of seconds or of a date, never below 0; None: nothing usable."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        # More digits than a float holds are a server that never wants to be asked again.
        return float(text) if len(text) < 18 else math.inf
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
