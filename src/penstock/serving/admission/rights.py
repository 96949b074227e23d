"""What callers may say of their requests that not everybody is believed."""

from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.calling import DEFAULT_CRITICALITY, Criticality
from penstock.core.clock import Clock
from penstock.observe.metrics import MetricSet
from penstock.serving.admission.rates.tenants import Tenants
from penstock.serving.admission.request_start import REQUEST_START, WAITED_S_MAX, parse_request_start_s

__all__ = ["OF_ANYBODY", "Granted", "Rights"]

AHEAD_S_MAX = 1.0
"""Clocks of two machines differ by some milliseconds: so much in the future is no fault worth counting."""


class Granted(NamedTuple):
    """What of a request's own words counts.

    `begun_s` is when it came to whoever passed it on, in monotonic seconds; infinity where nobody says so who
    is believed. `highest` is the most important class that it may name, from 1.
    """

    begun_s: float = float("inf")
    highest: int = Criticality.CRITICAL_PLUS


OF_ANYBODY = Granted()
OF_OTHERS = Granted(highest=DEFAULT_CRITICALITY)


class Rights:
    """One for each process. In the event loop alone.

    `privileged` are the tenants that may name a class above the default one; None: anybody may.
    """

    def __init__(
        self,
        tenants: Tenants,
        metrics: MetricSet,
        clock: Clock,
        *,
        privileged: frozenset[str] | None = None,
    ) -> None:
        self._tenants = tenants
        self._privileged = privileged
        self._clock = clock
        self._ignored = metrics.counter(
            "penstock_request_start_ignored_total",
            "Times in x-request-start, sent by trusted proxies, that cannot be right.",
        )

    def of(self, headers: Mapping[bytes, bytes], peer: bytes, tenant: str | None = None) -> Granted:
        """Of a request that comes now from `peer` with these headers, whose names are in lower case.

        `tenant` is who asks, where that was found out already.
        """
        granted = OF_ANYBODY
        if self._privileged is not None:
            tenant = tenant or self._tenants.identify(headers, peer)
            if tenant not in self._privileged:
                granted = OF_OTHERS
        started = headers.get(REQUEST_START)
        if started is not None and self._tenants.is_proxy(peer):
            waited_s = self._waited_s(started)
            if waited_s is not None:
                granted = granted._replace(begun_s=self._clock.monotonic() - waited_s)
        return granted

    def _waited_s(self, started: bytes) -> float | None:
        """How long ago that was. What makes no sense is not the caller's fault, so it is no error."""
        started_s = parse_request_start_s(started)
        if started_s is not None:
            waited_s = self._clock.now().timestamp() - started_s
            if 0.0 <= waited_s <= WAITED_S_MAX:
                return waited_s
            if -AHEAD_S_MAX <= waited_s < 0.0:
                return None
        self._ignored.value += 1
        return None
