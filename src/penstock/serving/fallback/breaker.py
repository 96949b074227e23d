"""A circuit breaker: a version that keeps failing is left alone for a while, and then tried with few requests.

The pattern is Michael Nygard's ("Release It!", 2007, chapter 5). The share of failures is taken over the last
outcomes, as Resilience4j's count-based window does: it needs no clock, and a version that is asked seldom is
judged by as many requests as one that is asked often. The time for which it stays open grows as in Marc
Brooker's "Exponential Backoff and Jitter" (2015), with half of it random ("equal jitter").
"""

import enum
from collections import deque
from collections.abc import Callable

import msgspec

from penstock.core.errors import ConfigurationError

__all__ = ["BreakerConfig", "BreakerState", "BreakerStatistics", "CircuitBreaker", "Probe"]

WINDOW_REQUESTS_MAX = 100_000
PROBES_MAX = 1000
OPEN_S_MAX = 86_400.0
DOUBLINGS_MAX = 32


class BreakerState(enum.Enum):
    """Closed: all requests pass. Open: none does. Half-open: a few do, and decide."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """It opens when `failure_share` or more of the last `window_requests` failed, and at least `requests_min`
    are known. It stays open for `open_first_s`, twice as long each time that it opens again, at most for
    `open_longest_s`; then `probes` requests are let through, and close it when they all succeed.

    Raises `ConfigurationError` for values that bound nothing.
    """

    failure_share: float = 0.5
    window_requests: int = 100
    requests_min: int = 20
    open_first_s: float = 1.0
    open_longest_s: float = 30.0
    probes: int = 3

    def __post_init__(self) -> None:
        fits = (
            0 < self.failure_share <= 1
            and 1 <= self.requests_min <= self.window_requests <= WINDOW_REQUESTS_MAX
            and 0 < self.open_first_s <= self.open_longest_s <= OPEN_S_MAX
            and 1 <= self.probes <= PROBES_MAX
        )
        if not fits:
            raise ConfigurationError(
                f"breaker {self!r} cannot work",
                hint="0 < failure_share <= 1, 1 <= requests_min <= window_requests, "
                "0 < open_first_s <= open_longest_s <= one day, 1 <= probes <= 1000",
            )


class BreakerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`requests` and `failures` of the window; `open_s`: how much longer it lets nothing through, in seconds;
    `probes` that are out; `opened`: how often it has opened, `refused`: what it let not through.
    """

    state: str
    requests: int
    failures: int
    open_s: float
    probes: int
    opened: int
    refused: int


class Probe:
    """A request that a half-open breaker let through. It ends once; what comes after that changes nothing."""

    __slots__ = ("_end", "begun_s")

    def __init__(self, begun_s: float, end: "Callable[[Probe, float, bool | None], None]") -> None:
        self.begun_s = begun_s
        self._end = end

    def succeeded(self, now_s: float) -> None:
        self._end(self, now_s, False)

    def failed(self, now_s: float) -> None:
        self._end(self, now_s, True)

    def ignored(self, now_s: float) -> None:
        """It says nothing of the version: refused elsewhere, invalid, or given up by its caller."""
        self._end(self, now_s, None)


class CircuitBreaker:
    """One for each version. Times are monotonic seconds; `jitter` gives numbers from 0 to 1.

    While `closed`, whoever asks needs no leave, and reports each outcome by `observe`. Otherwise `probe` says
    whether a request may pass. Whatever becomes of a probe, its place is free again after `open_longest_s`: one
    that is lost cannot keep the breaker from closing.
    """

    def __init__(self, config: BreakerConfig, jitter: Callable[[], float]) -> None:
        self._config = config
        self._jitter = jitter
        self.closed = True
        self._outcomes: deque[bool] = deque()
        self._failures = 0
        self._since_s = float("-inf")
        """Since when it is closed. Outcomes of requests from before that belong to another life."""
        self._until_s = 0.0
        self._half_open = False
        self._probes: set[Probe] = set()
        self._succeeded = 0
        self._openings = 0
        """In a row: how often it opened without having been closed for long in between."""
        self._opened = 0
        self._refused = 0

    def observe(self, *, failed: bool, begun_s: float, now_s: float) -> None:
        """A request that began at `begun_s` has ended. Only what speaks of the version itself is reported."""
        if not self.closed or begun_s < self._since_s:
            return
        outcomes = self._outcomes
        outcomes.append(failed)
        self._failures += failed
        if len(outcomes) > self._config.window_requests:
            self._failures -= outcomes.popleft()
        if not failed:
            return
        known = len(outcomes)
        if known >= self._config.requests_min and self._failures >= self._config.failure_share * known:
            self._open(now_s)

    def probe(self, now_s: float) -> Probe | None:
        """Leave for one request while it is not closed; None: it is not to be tried now."""
        assert not self.closed, "a closed breaker needs no probes"
        self._turn(now_s)
        if self._half_open:
            self._forget_lost(now_s)
            if len(self._probes) + self._succeeded < self._config.probes:
                probe = Probe(now_s, self._end)
                self._probes.add(probe)
                return probe
        self._refused += 1
        return None

    def open_s(self, now_s: float) -> float:
        """How much longer nothing passes, in seconds; 0 where something may."""
        if self.closed or self._half_open:
            return 0.0
        # A clock that was set back must not keep it open for longer than it may ever be.
        self._until_s = min(self._until_s, now_s + self._config.open_longest_s)
        return max(0.0, self._until_s - now_s)

    def state(self, now_s: float) -> BreakerState:
        if self.closed:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.open_s(now_s) > 0 else BreakerState.HALF_OPEN

    def statistics(self, now_s: float) -> BreakerStatistics:
        return BreakerStatistics(
            state=self.state(now_s).value,
            requests=len(self._outcomes),
            failures=self._failures,
            open_s=self.open_s(now_s),
            probes=len(self._probes),
            opened=self._opened,
            refused=self._refused,
        )

    def _open(self, now_s: float) -> None:
        config = self._config
        if now_s - self._since_s > config.open_longest_s:
            self._openings = 0
        longest_s = min(config.open_first_s * 2.0 ** min(self._openings, DOUBLINGS_MAX), config.open_longest_s)
        self._openings += 1
        self._opened += 1
        self._until_s = now_s + longest_s * (0.5 + 0.5 * self._jitter())
        self._half_open = False
        self._begin(closed=False)

    def _begin(self, *, closed: bool) -> None:
        """A state with nothing known yet."""
        self.closed = closed
        self._outcomes.clear()
        self._failures = 0
        self._probes.clear()
        self._succeeded = 0

    def _turn(self, now_s: float) -> None:
        if not self._half_open and self.open_s(now_s) == 0:
            self._half_open = True

    def _forget_lost(self, now_s: float) -> None:
        longest_s = self._config.open_longest_s
        lost = [probe for probe in self._probes if not -longest_s < now_s - probe.begun_s < longest_s]
        self._probes.difference_update(lost)

    def _end(self, probe: Probe, now_s: float, failed: bool | None) -> None:
        if probe not in self._probes:
            return  # lost, ended, or of a time before it opened again
        self._probes.discard(probe)
        if failed is None:
            return
        if failed:
            # Not closed in between, however long ago it was: the pause goes on growing.
            self._since_s = now_s
            self._open(now_s)
            return
        self._succeeded += 1
        if self._succeeded >= self._config.probes:
            self._half_open = False
            self._since_s = now_s
            self._begin(closed=True)
