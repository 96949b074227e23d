"""What callers may say of their requests that not everybody is believed."""

from collections.abc import Mapping
from typing import NamedTuple

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
    is believed.
    """

    begun_s: float = float("inf")


OF_ANYBODY = Granted()


class Rights:
    """One for each process. In the event loop alone."""

    def __init__(self, tenants: Tenants, metrics: MetricSet, clock: Clock) -> None:
        self._tenants = tenants
        self._clock = clock
        self._ignored = metrics.counter(
            "penstock_request_start_ignored_total",
            "Times in x-request-start, sent by trusted proxies, that cannot be right.",
        )

    def of(self, headers: Mapping[bytes, bytes], peer: bytes) -> Granted:
        """Of a request that comes now from `peer` with these headers, whose names are in lower case."""
        started = headers.get(REQUEST_START)
        if started is None or not self._tenants.is_proxy(peer):
            return OF_ANYBODY
        waited_s = self._waited_s(started)
        return OF_ANYBODY if waited_s is None else Granted(self._clock.monotonic() - waited_s)

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
