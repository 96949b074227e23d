"""What keeps requests from a version that is failing: its breaker, and the checks of its health."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from penstock.core.clock import Clock
from penstock.core.errors import Refused, WrongOutputs
from penstock.core.rng import unit_random
from penstock.models.runtimes.runtime import Examine, Runtime
from penstock.serving.fallback.breaker import BreakerConfig, BreakerStatistics, CircuitBreaker, Probe
from penstock.serving.fallback.ladder import blames_model
from penstock.serving.health import HealthConfig, HealthStatistics, VersionHealth
from penstock.serving.statistics import BreakerCounts

__all__ = ["BreakerGate", "HealthWatch"]

log = logging.getLogger(__name__)

RETRY_AFTER_S_MIN = 1.0


class BreakerGate:
    """A version's breaker in the event loop. `name` is the version's, in messages."""

    def __init__(self, config: BreakerConfig, clock: Clock, name: str) -> None:
        self._breaker = CircuitBreaker(config, unit_random)
        self._monotonic = clock.monotonic
        self._name = name

    def enter(self) -> Probe | None:
        """Leave to ask the version, with the probe to be watched where it is one. Raises `Refused`."""
        breaker = self._breaker
        if breaker.closed:
            return None
        now_s = self._monotonic()
        probe = breaker.probe(now_s)
        if probe is None:
            raise Refused(
                f"{self._name} keeps failing and is left alone for a while",
                reason="breaker_open",
                retry_after_s=max(breaker.open_s(now_s), RETRY_AFTER_S_MIN),
                hint="try again later; the server's log says how it failed",
            )
        return probe

    def give_back(self, probe: Probe) -> None:
        """The version was not asked after all."""
        probe.ignored(self._monotonic())

    def watch(self, probe: Probe, answered: "asyncio.Future[Any]") -> None:
        """Ends the probe when its request ends."""
        answered.add_done_callback(partial(self._probed, probe))

    def answered(self, seconds: float, now_s: float) -> None:
        """A request was answered at `now_s`, `seconds` after it came."""
        self._breaker.observe(failed=False, begun_s=now_s - seconds, now_s=now_s)

    def failed(self, error: Exception, seconds: float) -> None:
        """A request was not, for this reason."""
        if blames_model(error):
            now_s = self._monotonic()
            was_closed = self._breaker.closed
            self._breaker.observe(failed=True, begun_s=now_s - seconds, now_s=now_s)
            if was_closed and not self._breaker.closed:
                log.error("%s keeps failing and is left alone for a while; last: %s", self._name, error)

    def statistics(self) -> BreakerStatistics:
        return self._breaker.statistics(self._monotonic())

    def counts(self) -> BreakerCounts:
        """Likewise, to be added up with those of other processes."""
        now = self.statistics()
        return BreakerCounts(states={now.state: 1}, opened=now.opened, refused=now.refused)

    def _probed(self, probe: Probe, answered: "asyncio.Future[Any]") -> None:
        now_s = self._monotonic()
        error = None if answered.cancelled() else answered.exception()
        if error is not None and blames_model(error):
            probe.failed(now_s)
        elif error is not None or answered.cancelled():
            probe.ignored(now_s)
        else:
            probe.succeeded(now_s)
            if self._breaker.closed:
                log.warning("%s answers again", self._name)


class HealthWatch:
    """Has a version tried on what is known of it, now and again. `ask` hands an examination to the runtime."""

    def __init__(
        self,
        config: HealthConfig,
        examine: Examine,
        ask: Callable[[Examine], "Future[float]"],
        clock: Clock,
        name: str,
    ) -> None:
        self._health = VersionHealth(config, clock.monotonic(), unit_random)
        self._examine = examine
        self._ask = ask
        self._monotonic = clock.monotonic
        self._name = name
        self.on_wrong: Callable[[], object] = str
        """Told when it is out and gave wrong outputs: what it gave to others may be as wrong. That of one which
        crashed, hangs or is slow is not.
        """
        self._stepped_s = float("-inf")
        """When a piece of a check last ended."""
        self._wrong = False
        """Whether it gave wrong outputs since it last passed, and nobody was told."""
        self.sick: str | None = None
        """Why it answers nobody, though its runtime may; None: it is well."""

    def check(self, fault: str | None, *, idle: bool) -> None:
        """Begins a check where it is time for one; `fault` is why the runtime cannot run. Does not block."""
        now_s = self._monotonic()
        self._health.went_on(self._stepped_s)
        if self._health.due(now_s, idle=idle):
            self._health.began(now_s)
            if fault is None:
                examining = asyncio.wrap_future(self._ask(self._steps))
                examining.add_done_callback(self._examined)
            else:
                self._ended(fault, 0.0)
        self._settle()

    def statistics(self) -> HealthStatistics:
        return self._health.statistics()

    def _steps(self, runtime: Runtime) -> Iterator[None]:
        """The examination. In the runtime's thread."""
        for _ in self._examine(runtime) or ():
            self._stepped_s = self._monotonic()
            yield

    def _examined(self, ended: "asyncio.Future[float]") -> None:
        error = None if ended.cancelled() else ended.exception()
        self._wrong = error is not None and (self._wrong or isinstance(error, WrongOutputs))
        spent_s = ended.result() if error is None and not ended.cancelled() else 0.0
        self._ended(None if error is None else str(error), spent_s)
        self._settle()

    def _ended(self, fault: str | None, spent_s: float) -> None:
        self._health.ended(self._monotonic(), fault, spent_s)
        if fault is not None:
            log.warning("%s failed a check: %s", self._name, fault)

    def _settle(self) -> None:
        """Takes it out when it has become sick, and back in when it is well."""
        sick = self._health.sick
        if (sick is None) is not (self.sick is None):
            log.error("%s %s", self._name, f"is taken out: {sick}" if sick else "passes its checks again")
        if sick is not None and self._wrong:
            self._wrong = False
            self.on_wrong()
        self.sick = f"it is taken out, as it keeps failing its checks: {sick}" if sick else None
