"""One call: which server to ask, whether to ask again, and what to raise in the end. It does no I/O."""

from collections.abc import Callable
from enum import Enum

import msgspec

from penstock.client.budget import RetryBudget
from penstock.client.endpoints import Endpoint, Endpoints
from penstock.client.errors import CallFailed, CallRefused, CallTimedOut, Unreachable
from penstock.client.retrying import RetryPolicy

__all__ = ["Call", "Failure", "Kind"]


class Kind(Enum):
    """Ways to fail after which the same call may be sent again."""

    UNREACHABLE = "unreachable"
    """No connection was made: no server has seen the request."""
    BROKEN = "broken"
    """The connection ended before the answer was whole. An inference changes nothing, so it may be repeated."""
    REFUSED = "refused"
    """503: this server does not take it on now."""
    QUOTA = "quota"
    """429: the caller asks too often, whichever server."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt failed. `why` is for people, `reason` one word, `retry_after_s` is what the server asked
    for.
    """

    kind: Kind
    endpoint: Endpoint
    why: str
    reason: str
    status: int | None = None
    retry_after_s: float | None = None


class Call:
    """Decides for one call; its budget and endpoints are those of all calls of the client.

    Times are monotonic seconds. A pause never ends at the deadline or after it, and no more than
    `attempts_max` attempts are made but for servers that no connection could be made to: another one is
    asked instead, each once, for nothing (gRPC's A6 calls that a transparent retry).
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        endpoints: Endpoints,
        *,
        deadline_s: float,
        draw: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._endpoints = endpoints
        self._draw = draw
        self._avoid: set[Endpoint] = set()
        self._unreachable: set[Endpoint] = set()
        self._held: dict[Endpoint, float] = {}
        self._failures: dict[str, str] = {}
        self.deadline_s = deadline_s
        self.attempts = 0
        """All that were begun."""
        self.sent = 0
        """Those that a server may have seen."""
        self.retries = 0
        self.asked: Endpoint = next(iter(endpoints))
        """The server that was chosen last."""

    def begin(self, now_s: float) -> Endpoint:
        """The server to ask first."""
        self._budget.call(now_s)
        return self.choose(now_s)

    def choose(self, now_s: float) -> Endpoint:
        """The server to ask next: not one that failed this call or asked to wait, where there are others."""
        avoid = self._avoid | {each for each, until_s in self._held.items() if until_s > now_s}
        self.asked = self._endpoints.pick(avoid)
        self.attempts += 1
        return self.asked

    def hedge(self, under_way: Endpoint, now_s: float) -> Endpoint | None:
        """Another server to ask as well, where one is up and the budget has a token; else None."""
        avoid = self._avoid | {under_way} | {each for each, until_s in self._held.items() if until_s > now_s}
        other = self._endpoints.pick_other(avoid)
        if other is None or self.retries + 1 >= self._policy.attempts_max or not self._budget.take(now_s):
            return None
        self.attempts += 1
        self.retries += 1
        return other

    def failed(self, failure: Failure, now_s: float) -> float | CallFailed:
        """The pause, in seconds, after which to choose again, or the error that ends the call."""
        self._failures[failure.endpoint.url] = failure.why
        self._avoid.add(failure.endpoint)
        if failure.kind is Kind.UNREACHABLE and failure.endpoint not in self._unreachable:
            self._unreachable.add(failure.endpoint)
            if any(each not in self._avoid for each in self._endpoints) and now_s < self.deadline_s:
                return 0.0
        at_once = failure.kind is Kind.BROKEN and self._endpoints.pick_other(self._avoid) is not None
        if self._avoid.issuperset(self._endpoints):
            self._avoid.clear()
        if self.retries + 1 >= self._policy.attempts_max:
            return self._error(failure)
        pause_s = self._pause_s(failure, now_s, at_once=at_once)
        if now_s + pause_s >= self.deadline_s:
            return self._error(failure, hint="the pause before another attempt passes the call's deadline")
        if not self._budget.take(now_s):
            return self._error(failure, hint="the client's retry budget is spent: too many of its calls fail")
        self.retries += 1
        return pause_s

    def note(self, failure: Failure) -> None:
        """Of two attempts at once, this one failed first."""
        self._failures[failure.endpoint.url] = failure.why
        self._avoid.add(failure.endpoint)

    def timed_out(self, url: str, timeout_s: float, *, status: int | None = None) -> CallTimedOut:
        """The error of a call whose deadline has passed, here or (504) at the server."""
        told = "".join(f"; {where}: {why}" for where, why in self._failures.items())
        by = "in time" if status is not None else f"within {max(0.0, round(timeout_s, 2)):g} s"
        return CallTimedOut(
            f"{url} did not answer {by}{told}",
            status=status,
            reason="deadline",
            attempts=self.attempts,
            url=url,
            hint="allow it more time with timeout_s, or look at the model's latency",
        )

    def _pause_s(self, failure: Failure, now_s: float, *, at_once: bool) -> float:
        if failure.kind is Kind.QUOTA:
            for each in self._endpoints:
                self._held[each] = now_s + (failure.retry_after_s or 0.0)
        elif failure.retry_after_s is not None:
            self._held[failure.endpoint] = now_s + failure.retry_after_s
        up = [each for each in self._endpoints if each.up] or list(self._endpoints)
        wait_s = max(0.0, min(self._held.get(each, now_s) for each in up) - now_s)
        if at_once and not wait_s:
            return 0.0
        return self._policy.pause_s(self.retries + 1, self._draw(), wait_s)

    def _error(self, failure: Failure, *, hint: str | None = None) -> CallFailed:
        told = "; ".join(f"{url}: {why}" for url, why in self._failures.items())
        facts = {"status": failure.status, "attempts": self.attempts, "url": failure.endpoint.url}
        if failure.kind in (Kind.REFUSED, Kind.QUOTA):
            refused = CallRefused(told, reason=failure.reason, hint=hint, **facts)  # type: ignore[arg-type]
            refused.retry_after_s = failure.retry_after_s or 0.0
            return refused
        return Unreachable(
            f"no server could be reached: {told}",
            reason=failure.reason,
            hint=hint or "is the server running, and is the URL right?",
            **facts,  # type: ignore[arg-type]
        )
